/* A study: its numbers with intervals, curves (also of runs at work), what failed and why, and where each number comes from. */
"use strict";
(() => {
  const { h, load, address, number } = lago;

  function table(rows, home, trace) {
    if (!rows.length) return h("p", { class: "soft" }, "Nothing has been measured yet.");
    return h("div", { class: "scroll" }, h("table", {}, h("thead", {}, h("tr", {}, ["task", "method", "steps", "seed", "success", "95 % interval", "episodes", "led by", "lineage"].map((each, i) => h("th", { class: [2, 3, 4, 6].includes(i) ? "num" : "" }, each)))),
      h("tbody", {}, rows.map((row) => h("tr", {}, h("td", {}, home.tasks.some((each) => each.id === row.task) ? h("a", { href: address("playbook", [row.task]) }, row.task) : row.task), h("td", {}, row.method), h("td", { class: "num" }, lago.count(row.steps)), h("td", { class: "num" }, row.seed === null ? "–" : row.seed), h("td", { class: "num" }, h("strong", {}, number(row.success))), h("td", {}, lago.draw.whisker(row.success, row.low, row.high)), h("td", { class: "num" }, row.episodes), h("td", {}, row.leader || ""),
        h("td", {}, h("button", { type: "button", class: "quiet small", "aria-label": `Where the number of ${row.task} by ${row.method} comes from`, onclick: () => trace(row.method === "library" ? `zero-shot/${row.task}` : `runs/${row.task}__${row.method}__s${row.seed}`) }, "comes from")))))));
  }

  function lineage(said, box, start) {
    const nodes = new Map(said.nodes.map((each) => [each.name, each]));
    const seen = new Set();
    const branch = (name) => {
      const node = nodes.get(name), again = seen.has(name);
      seen.add(name);
      const from = (said.made_from[name] || []).filter((each) => nodes.has(each));
      const line = h("span", {}, h("strong", {}, name), " ", h("span", { class: "mono soft" }, node.digest), h("span", { class: "soft small" }, ` ${node.about}`), name.startsWith("answers/") ? h("span", {}, " ", h("a", { href: address("playbook", [name.slice(8)]) }, "read the answer")) : name.startsWith("episodes/") ? h("span", {}, " ", h("a", { href: address("episode", [`demo-${name.slice(9)}-0`.replace(/[^\w-]/g, "_")]) }, "see a demonstration")) : null);
      if (!from.length || again) return h("li", {}, line, again && from.length ? h("span", { class: "soft small" }, " (see above)") : null);
      return h("li", {}, from.length > 6 ? h("details", {}, h("summary", {}, line), h("ul", {}, from.map(branch))) : [line, h("ul", {}, from.map(branch))]);
    };
    box.replaceChildren(nodes.has(start) ? h("div", { class: "tree" }, h("ul", {}, branch(start))) : h("p", { class: "soft" }, `${start} has not been made yet.`));
  }

  const PALETTE = ["guided-sac", "guided-ppo", "sac", "ppo", "library"];
  async function curves(box, home) {
    await lago.curvesLibrary();
    const said = await load("curves");
    const plots = [];
    const tasks = [...new Set(said.runs.map((each) => each.task))];
    box.replaceChildren();
    if (!tasks.length) box.append(h("p", { class: "soft" }, "No run has a curve yet."));
    for (const task of tasks) {
      const runs = said.runs.filter((each) => each.task === task);
      const methods = [...new Set(runs.map((each) => each.method))];
      const x = [...new Set(runs.flatMap((each) => each.step))].sort((a, b) => a - b);
      const at = runs.map((run) => { const known = new Map(run.step.map((step, i) => [step, run.success[i]])); return x.map((step) => (known.has(step) ? known.get(step) : null)); });
      const tint = (method) => lago.draw.colour(PALETTE.includes(method) ? [0, 0, 3, 3, 2][PALETTE.indexOf(method)] : methods.indexOf(method) + 4);
      const middle = methods.map((method) => x.map((_, i) => { const values = runs.flatMap((run, k) => (run.method === method && at[k][i] !== null ? [at[k][i]] : [])); return values.length ? values.reduce((sum, each) => sum + each, 0) / values.length : null; }));
      const part = h("section", { class: "paper" }, h("h2", {}, task), h("div", { class: "legend" }, methods.map((method) => { const node = h("span", { class: "dot" }); node.style.background = tint(method); return h("span", {}, node, `${method}, mean of ${runs.filter((run) => run.method === method).length} (thin: each)`); })));
      box.append(part);
      plots.push(new uPlot({
        width: part.clientWidth - 42, height: 240, legend: { show: false }, cursor: { y: false }, scales: { x: { time: false }, y: { range: [-0.03, 1.03] } },
        axes: [{ stroke: lago.draw.css("--soft"), grid: { show: false }, label: "environment steps", labelSize: 20, size: 30 }, { stroke: lago.draw.css("--soft"), grid: { stroke: lago.draw.css("--line"), width: 1 }, label: "success", labelSize: 20, size: 40 }],
        series: [{}, ...runs.map((run) => ({ stroke: `${tint(run.method)}77`, width: 1, spanGaps: true, points: { show: false } })), ...methods.map((method) => ({ stroke: tint(method), width: 2.6, spanGaps: true, points: { size: 5, fill: tint(method) } }))],
      }, [x, ...at, ...middle], part));
      part.append(h("details", {}, h("summary", { class: "small" }, "The same as a table"), h("div", { class: "scroll", tabindex: "0", role: "region", "aria-label": `Success of ${task} over steps` }, h("table", {}, h("thead", {}, h("tr", {}, h("th", {}, "run"), x.map((step) => h("th", { class: "num" }, lago.count(step))))), h("tbody", {}, runs.map((run, k) => h("tr", {}, h("th", {}, `${run.method} s${run.seed}`), at[k].map((value) => h("td", { class: "num" }, value === null ? "" : number(value))))))))));
      const live = runs.filter((run) => run.state === "running");
      if (live.length) part.prepend(h("p", { class: "chip on", role: "status" }, `at work: ${live.map((run) => `${run.method} s${run.seed}, step ${lago.count(run.step[run.step.length - 1] || 0)}, success ${number((run.success || []).slice(-1)[0])}, prior leads ${lago.percent((run.prior_share || []).slice(-1)[0] || 0)}`).join("; ")}`));
    }
    return { plots, running: said.runs.some((run) => run.state === "running") };
  }

  function waiting(said, home) {
    if (!said.waiting.length) return null;
    return said.waiting.map((each) => h("section", { class: "paper" }, h("h2", {}, `Waits for approval: ${each.what}`), h("p", { class: "soft small mono" }, each.digest.slice(0, 12), each.rejected ? ` rejected by ${each.rejected}` : ""), each.findings.length ? h("ul", { class: "small" }, each.findings.map((text) => h("li", {}, text))) : null,
      h("details", {}, h("summary", {}, `What changed: ${each.difference.length} lines`), h("pre", { tabindex: "0" }, each.difference.map((text) => h("span", { class: text.startsWith("+") ? "plus" : text.startsWith("-") ? "minus" : "" }, `${text}\n`)))),
      home.edits && !lago.inFolder ? h("div", { class: "row end" }, [["rejected", "Reject"], ["approved", "Approve"]].map(([verdict, text]) => h("button", { type: "button", class: verdict === "approved" ? "main" : "", onclick: () => lago.edit.change("approve", { what: each.what, digest: each.digest, verdict, comment: "" }, (answer) => `${each.what} ${answer.verdict} by ${answer.by}.`) }, text))) : h("p", { class: "soft small" }, "Decide with lago approve, or on a service with --edit.")));
  }

  async function show(main, where, home) {
    if (!home.study) { main.replaceChildren(h("h1", {}, "Study"), h("p", { class: "paper" }, "This bundle is shown without the study that it was made by. Serve it with --study STUDY to see its numbers, curves and lineage.")); return {}; }
    const [said, known, all] = await Promise.all([load("study"), load("curves"), load("episodes")]);
    const played = new Set(all.episodes.map((each) => each.name));
    const episodeOf = (each) => { const name = `played-${each.task}__${each.method === "library" ? "library" : `${each.method}__s${each.seed}`}`.replace(/[^\w-]/g, "_"); return played.has(name) ? address("episode", [name]) : address("episodes"); };
    const atWork = known.runs.some((run) => run.state === "running");
    const tree = h("div", {}, h("p", { class: "soft" }, "Choose “comes from” beside a number."));
    const trace = (name) => { lineage(said.lineage, tree, name); tree.scrollIntoView({ block: "nearest" }); lago.noted(address("study", [], { of: name })); };
    const plots = h("div", { class: "grid", "aria-live": "off" });
    const learning = h("section", { style: { margin: "16px 0" } }, h("h2", {}, atWork ? "Learning now" : "Learning curves"), plots);
    main.replaceChildren(...[h("div", { class: "head" }, h("h1", {}, said.study), h("p", { class: "soft" }, `success: ${home.success}`)),
      atWork ? learning : null,
      said.missing.length ? h("section", { class: "paper" }, h("h2", {}, "Not finished"), h("p", {}, `${said.missing.length === 1 ? "1 artifact is" : `${said.missing.length} artifacts are`} not made yet: `, said.missing.slice(0, 8).join(", "), said.missing.length > 8 ? " and more" : "", ". What there is, is shown.")) : null,
      waiting(said, home),
      h("section", { class: "paper" }, h("h2", {}, "Success"), table(said.rows, home, trace)),
      said.failures.length ? h("section", { class: "paper" }, h("h2", {}, "What failed, and what is known of why"), h("ul", { class: "plain" }, said.failures.map((each) => h("li", {}, h("strong", {}, each.task), ` by ${each.method}${each.seed === null ? "" : ` s${each.seed}`}: 0 of ${each.episodes}. `, h("a", { href: episodeOf(each) }, "see what it did"), each.why.length ? h("ul", { class: "small" }, each.why.map((text) => h("li", {}, text))) : h("span", { class: "soft small" }, " Lint has found nothing in its plan."))))) : null,
      atWork ? null : learning,
      ...said.tables.map((each) => h("section", { class: "paper" }, h("h2", {}, `Table ${each.name}`), h("p", { class: "soft" }, each.question), h("div", { class: "scroll" }, h("table", {}, h("thead", {}, h("tr", {}, Object.keys(each.rows[0] || {}).slice(0, 8).map((key) => h("th", {}, key)))), h("tbody", {}, each.rows.map((row) => h("tr", {}, Object.values(row).slice(0, 8).map((value) => h("td", { class: "num" }, typeof value === "number" ? number(value) : value === null ? "–" : String(value)))))))))),
      h("section", { class: "paper", id: "lineage" }, h("h2", {}, "Where a number comes from"), tree)].filter(Boolean).flat());
    if (where.query.get("of")) lineage(said.lineage, tree, where.query.get("of"));
    let drawn = await curves(plots, home);
    let timer = null;
    if (drawn.running && !lago.inFolder) timer = setInterval(async () => {
      if (!plots.isConnected) { clearInterval(timer); return; }
      try { lago.forget(["home"]); await load("curves"); drawn.plots.forEach((plot) => plot.destroy()); drawn = await curves(plots, home); } catch { /* said above the page */ }
    }, 3000);
    return { close: () => { clearInterval(timer); drawn.plots.forEach((plot) => plot.destroy()); } };
  }

  lago.views.study = show;
})();
