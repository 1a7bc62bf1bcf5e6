/* Playbooks: the plans of a task side by side, in words; thresholds that can be moved, and which recorded states each step then owns. */
"use strict";
(() => {
  const { h, load, address, name } = lago;

  /* Which step owns each state: the first whose conditions all hold, else the last. `values` has a row for each feature. */
  function owners(steps, features, values, n) {
    const last = steps.length - 1;
    const tests = steps.map((step) => step.when.map((each) => ({ row: values[features.indexOf(each.feature)], less: each.op === "<", value: each.value })));
    const owner = new Array(n);
    for (let t = 0; t < n; t += 1) {
      owner[t] = last;
      for (let s = 0; s < last; s += 1) if (tests[s].every((test) => (test.less ? test.row[t] < test.value : test.row[t] > test.value))) { owner[t] = s; break; }
    }
    return owner;
  }


  function written(plan, original) {
    const steps = original.json.steps.map((step, i) => ({ ...step, when: (step.when || []).map((each, k) => ({ ...each, value: plan.steps[i].when[k].value })) }));
    return JSON.stringify({ ...original.json, steps }, null, 1);
  }

  function stepNode(step, at, plan, moved, order) {
    const tint = lago.draw.colour(at);
    const conditions = step.when.map((each, k) => {
      const id = `${plan.name}-${at}-${k}`.replace(/[^\w-]/g, "_");
      const [least, most] = each.range;
      const slide = h("input", { type: "range", min: least, max: most, step: "any", value: each.value, "aria-label": each.words });
      const box = h("input", { type: "number", id, step: "any", value: each.value });
      const set = (value, from) => { if (!Number.isFinite(value)) return; each.value = value; if (from !== slide) slide.value = value; if (from !== box) box.value = Number(value.toPrecision(4)); moved(); };
      slide.addEventListener("input", () => set(Number(Number(slide.value).toPrecision(4)), slide));
      box.addEventListener("input", () => set(Number(box.value), box));
      return h("div", { class: "threshold" }, h("label", { for: id }, h("span", { class: "mono" }, each.feature), h("strong", {}, ` ${each.op === "<" ? "less" : "more"} than`), each.unit && each.unit !== "1" ? ` (${each.unit})` : "", h("span", { class: "soft" }, ` ${each.words.replace(/: (less|more) than .*$/, "")}`)), slide, box);
    });
    const share = h("span", { class: "soft small num" });
    step.shareNode = share;
    const node = h("li", { class: "step" }, h("h3", {}, `${at + 1}. ${step.sentence}`), h("p", { class: "soft small", style: { margin: "0" } }, [step.goes ? `heads ${step.goes}` : "", step.about.length ? `about ${step.about.join(" and ")}` : "", step.until ? `until ${step.until}` : ""].filter(Boolean).join("; "), " ", share),
      conditions.length ? h("div", {}, h("p", { class: "small", style: { margin: "6px 0 0" } }, "while"), conditions) : plan.form === "numbers" ? h("p", { class: "small", style: { margin: "6px 0" } }, at === order - 1 && order > 1 ? "where nothing above holds" : "always") : null,
      h("details", {}, h("summary", { class: "small" }, "skills that answer it"), h("div", { class: "bars" }, step.skills.map((each) => [h("span", {}, h("a", { href: address("skill", [each.id]) }, name(each.id)), ` ${each.sentence}`), lago.draw.meter(each.weight, at)]))));
    node.style.borderLeftColor = tint;
    return node;
  }

  /* Recorded states by owner: a strip for each episode, a share for each step, and where they lie. */
  function ownership(states, plan) {
    const strips = states.episodes.map((each) => ({ each, canvas: h("canvas", { class: "strip", role: "img", "aria-label": `Steps at work in ${each.about}` }) }));
    const scatter = h("canvas", { class: "states", role: "img", "aria-label": "Where the recorded states lie, coloured by the step that owns them" });
    let wanted = false;
    function draw() {
      wanted = false;
      const totals = plan.steps.map(() => 0);
      let all = 0;
      const owned = strips.map(({ each, canvas }) => {
        const owner = owners(plan.steps, states.features, each.values, each.at.length);
        owner.forEach((step) => { totals[step] += 1; all += 1; });
        lago.draw.strip(canvas, owner.map((step) => lago.draw.colour(step)));
        return owner;
      });
      plan.steps.forEach((step, i) => { step.shareNode.textContent = all ? ` · ${lago.percent(totals[i] / all)} of the recorded states` : ""; });
      points(owned);
    }
    function points(owned) {
      if (!states.episodes.some((each) => each.points.length && each.points[0].length)) return;
      const { pen, width, height } = lago.draw.sharp(scatter);
      const place = states.episodes.map((each) => each.points.map((anchors) => anchors[0]));
      let [l, r, b, t] = [Infinity, -Infinity, Infinity, -Infinity];
      const second = place[0][0].length > 2 ? 2 : 1;
      place.forEach((own) => own.forEach((point) => { l = Math.min(l, point[0]); r = Math.max(r, point[0]); b = Math.min(b, point[1]); t = Math.max(t, point[1]); }));
      let [b2, t2] = [Infinity, -Infinity];
      place.forEach((own) => own.forEach((point) => { b2 = Math.min(b2, point[second]); t2 = Math.max(t2, point[second]); }));
      const half = second === 2 ? width / 2 : width;
      const scale = Math.min((half - 24) / Math.max(r - l, 1e-6), (height - 40) / Math.max(t - b, t2 - b2, 1e-6));
      pen.fillStyle = lago.draw.css("--soft"); pen.font = "11px system-ui, sans-serif"; pen.fillText("the acting point from above", 8, 14); if (second === 2) pen.fillText("from the front", half + 8, 14);
      place.forEach((own, e) => own.forEach((point, i) => {
        pen.fillStyle = lago.draw.colour(owned[e][i]);
        pen.beginPath(); pen.arc(half / 2 + (point[0] - (l + r) / 2) * scale, (height + 10) / 2 - (point[1] - (b + t) / 2) * scale, 2.2, 0, 7); pen.fill();
        if (second === 2) { pen.beginPath(); pen.arc(half * 1.5 + (point[0] - (l + r) / 2) * scale, (height + 10) / 2 - (point[2] - (b2 + t2) / 2) * scale, 2.2, 0, 7); pen.fill(); }
      }));
    }
    const node = h("section", { class: "paper", "aria-label": "Recorded states" }, h("h2", {}, "Which recorded states each step owns"), states.episodes.length
      ? [states.episodes.some((each) => each.points.length && each.points[0].length) ? scatter : null, h("div", { style: { "margin-top": "12px" } }, strips.map(({ each, canvas }) => h("div", { class: "lane" }, h("span", {}, h("a", { href: address("episode", [each.name]) }, each.about), each.success ? "" : " (failed)"), canvas)))]
      : h("p", { class: "soft" }, "No episode of this task is on record. Serve with --study STUDY, or write the pages with lago report STUDY --site FOLDER, which plays some."));
    new ResizeObserver(() => soon()).observe(node);
    function soon() { if (!wanted) { wanted = true; requestAnimationFrame(draw); } }
    return { node, soon };
  }

  function diffLine(text) { return h("span", { class: text.startsWith("+") ? "plus" : text.startsWith("-") ? "minus" : "" }, `${text}\n`); }

  function versionsPart(said) {
    if (!said.versions.length) return null;
    return h("section", { class: "paper" }, h("h2", {}, "Versions"), h("ul", { class: "plain" }, [...said.versions].reverse().map((each) => h("li", {}, h("div", { class: "row" }, h("strong", {}, `version ${each.number}`), each.in_use ? h("span", { class: "chip on" }, "in use") : null, h("span", { class: "soft small" }, `${each.by}, ${lago.when(each.at)}${each.score === null ? "" : `, score ${lago.number(each.score)}`}`)),
      h("p", { class: "soft small", style: { margin: "2px 0" } }, each.source), each.findings.length ? h("ul", { class: "small" }, each.findings.map((text) => h("li", {}, text))) : null,
      each.difference.length ? h("details", {}, h("summary", {}, "What changed"), h("pre", { tabindex: "0" }, each.difference.map(diffLine))) : null,
      h("details", {}, h("summary", {}, "What was asked and answered"), h("pre", { tabindex: "0" }, each.prompt), h("pre", { tabindex: "0", style: { "margin-top": "8px" } }, each.response))))));
  }

  function lintPart(said, plan) {
    const found = [...plan.findings, ...said.findings.map((each) => `${each.kind}: ${each.step ? `step ${each.step}: ` : ""}${each.text}`)];
    return h("section", { class: "paper", "aria-label": "Lint" }, h("h2", {}, "Lint"), found.length ? h("ul", { class: "small" }, [...new Set(found)].map((text) => h("li", {}, text))) : h("p", { class: "soft" }, "Nothing is wrong with it by logic, nor in what demonstrations and rollouts showed."));
  }

  function editPart(home, said, plan, original, redraw) {
    if (plan.form !== "numbers" || !plan.steps.some((step) => step.when.length)) return null;
    const shown = h("div", { "aria-live": "polite" });
    const buttons = [h("button", { type: "button", onclick: () => { plan.steps.forEach((step, i) => step.when.forEach((each, k) => { each.value = original.values[i][k]; })); redraw(); } }, "As it was"),
      h("button", { type: "button", onclick: async () => { await navigator.clipboard.writeText(written(plan, original)).catch(() => {}); shown.replaceChildren(h("pre", { tabindex: "0" }, written(plan, original)), h("p", { class: "soft small" }, `Put it into a file, and: lago plan edit ${said.task} --file FILE`)); } }, "As JSON")];
    if (home.edits && !lago.inFolder) {
      const busy = async (text, what, draw) => {
        shown.replaceChildren(h("p", { class: "soft" }, text));
        try { draw(await lago.post(what, { plan: plan.name, task: said.task, text: written(plan, original), who: lago.edit.who() })); } catch (error) { if (error.status === 401) lago.edit.needToken(); shown.replaceChildren(h("p", { class: "bad" }, error.message)); }
      };
      buttons.push(h("button", { type: "button", onclick: () => busy("Linting…", "lint", (answer) => shown.replaceChildren(answer.findings.length ? h("ul", {}, answer.findings.map((text) => h("li", {}, text))) : h("p", { class: "good" }, "Nothing is wrong by logic."))) }, "Lint it"));
      buttons.push(h("button", { type: "button", onclick: () => busy("Playing some episodes with both, which takes some seconds…", "rollout", (answer) => shown.replaceChildren(h("table", {}, h("thead", {}, h("tr", {}, h("th", {}, "plan"), h("th", { class: "num" }, "successes"), h("th", {}, "steps of each episode"))), h("tbody", {}, answer.rows.map((row) => h("tr", {}, h("td", {}, row.plan), h("td", { class: "num" }, `${row.successes} of ${row.episodes}`), h("td", { class: "num", style: { "text-align": "left" } }, row.steps.join(", ")))))))) }, "Try it in the world"));
      if (home.study && plan.name === said.task) buttons.push(h("button", { type: "button", class: "main", onclick: () => busy("Saving…", "plan", (answer) => { lago.forget(); shown.replaceChildren(h("p", { class: "good" }, `It is a version of its own now, and in use. Build with it: ${answer.next}`)); }) }, "Save as a version"));
    }
    return h("section", { class: "paper" }, h("h2", {}, "What to do with the moved thresholds"), h("div", { class: "row" }, buttons), shown);
  }

  function ready(plan, home) {
    const features = new Map(home.features.map((each) => [each.name, each]));
    plan.steps.forEach((step) => step.when.forEach((each) => {
      const feature = features.get(each.feature) || {};
      const size = Math.max(Math.abs(each.value) * 2, 0.05);
      each.range = [feature.low !== undefined && feature.low > each.value - 4 * size ? feature.low : each.value - size, feature.high !== undefined && feature.high < each.value + 4 * size ? feature.high : each.value + size];
    }));
    return { json: JSON.parse(JSON.stringify(plan.json)), values: plan.steps.map((step) => step.when.map((each) => each.value)) };
  }

  async function show(main, where, home) {
    const task = where.rest[0] || home.tasks[0].id;
    const [said, states] = await Promise.all([load(`plan-${task}`), load(`states-${task}`)]);
    const chosen = where.query.get("plan") || said.plans[0].name;
    const plan = JSON.parse(JSON.stringify(said.plans.find((each) => each.name === chosen) || said.plans[0]));
    const original = ready(plan, home);
    const pick = h("select", { id: "task", onchange: () => { location.hash = address("playbook", [pick.value]); } }, home.tasks.map((each) => h("option", { value: each.id }, `${each.id}: ${each.sentence}`)));
    pick.value = task;
    const owned = ownership(states, plan);
    const steps = h("ol", { class: "plain" });
    const draw = () => { steps.replaceChildren(...plan.steps.map((step, i) => stepNode(step, i, plan, owned.soon, plan.steps.length))); owned.soon(); };
    draw();
    const others = said.plans.length > 1 ? h("section", { class: "paper" }, h("h2", {}, `The portfolio: ${said.plans.length} plans`), h("div", { class: "grid" }, said.plans.map((each) => h("div", { class: "paper" }, h("h3", {}, h("a", { href: address("playbook", [task], { plan: each.name }), "aria-current": each.name === plan.name ? "true" : null }, each.name), h("span", { class: "soft small" }, ` ${each.model}, pace ${each.pace}`)), h("ol", { class: "small" }, each.steps.map((step) => h("li", {}, step.sentence))))))) : null;
    main.replaceChildren(...[h("div", { class: "head" }, h("h1", { dir: "auto" }, said.sentence), h("p", { class: "soft" }, `a plan in ${plan.form}`)), h("div", { class: "row", style: { "margin-bottom": "16px" } }, h("label", { for: "task" }, "task"), pick), others,
      h("div", { class: "two" }, h("div", {}, h("section", { class: "paper" }, h("h2", {}, plan.form === "numbers" ? "Steps: the first whose conditions all hold is at work" : "Steps, in the order of time"), steps), editPart(home, said, plan, original, draw)),
        h("div", {}, plan.form === "numbers" ? owned.node : null, lintPart(said, plan), versionsPart(said)))].filter(Boolean));
    return { redraw: owned.soon };
  }

  lago.views.playbook = show;
  lago.playbook = { owners };
})();
