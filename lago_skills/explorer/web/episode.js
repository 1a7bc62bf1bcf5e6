/* Episodes: a list, and one of them moment by moment, perhaps beside another. Every moment has an address. */
"use strict";
(() => {
  const { h, load, address, name, number } = lago;

  async function list(main, where, home) {
    const said = await load("episodes");
    const kinds = [...new Set(said.episodes.map((each) => each.kind))];
    const by = new Map();
    said.episodes.forEach((each) => { if (!by.has(each.task)) by.set(each.task, []); by.get(each.task).push(each); });
    main.replaceChildren(h("div", { class: "head" }, h("h1", {}, "Episodes"), h("p", { class: "soft" }, said.episodes.length ? `${said.episodes.length} on record: ${kinds.join(", ")}` : "")),
      said.episodes.length ? h("div", { class: "grid" }, [...by].map(([task, rows]) => h("section", { class: "paper" }, h("h2", {}, task), h("ul", { class: "plain" }, rows.map((each) => h("li", { class: "near" }, h("span", {}, h("a", { href: address("episode", [each.name]) }, each.about), h("span", { class: "soft small" }, ` ${each.steps} steps`)), h("span", { class: `small ${each.success ? "good" : "bad"}` }, each.success ? "solved" : "not solved"))))))) : h("p", { class: "paper" }, home.study ? "No episode is on record yet." : "A bundle holds no episodes. Serve it with --study STUDY, or write the pages with lago report STUDY --site FOLDER."));
    return {};
  }

  // -- pictures ----------------------------------------------------------------------------------------------------

  function picture(episode) {
    const has = episode.points.length && episode.points[0].length;
    const panels = has ? lago.draw.panels(episode.points, episode.anchors) : null;
    const canvas = has ? h("canvas", { class: "scene", role: "img", "aria-label": "Where things are, with the ways that they came" }) : null;
    const frames = episode.frames;
    const frame = frames ? h("div", { class: "frame", role: "img", "aria-label": "The world as it was drawn" }) : null;
    if (frame) { frame.style.backgroundImage = `url(${frames.data})`; frame.style.backgroundSize = `100% ${100 * frames.at.length}%`; }
    return {
      node: h("div", { class: `pictures${frame && canvas ? " both" : ""}` }, frame, canvas ? h("div", {}, canvas, lago.draw.legend(episode.anchors, panels.used, episode.targets.length && episode.targets[0].length > 0)) : frame ? null : h("p", { class: "soft" }, "This world has no anchors to draw, and no frames were kept.")),
      draw: (t) => {
        if (canvas) lago.draw.scene(canvas, episode.points, episode.anchors, t, { panels, target: episode.targets[Math.min(t, episode.targets.length - 1)] });
        if (frame) {
          let place = 0;
          while (place + 1 < frames.at.length && frames.at[place + 1] <= t) place += 1;
          frame.style.backgroundPosition = `0 ${frames.at.length > 1 ? (100 * place) / (frames.at.length - 1) : 0}%`;
        }
      },
    };
  }

  // -- lanes -------------------------------------------------------------------------------------------------------

  function lanes(episode) {
    const T = episode.steps;
    const paints = [];
    const lane = (label, paint, tall, link) => {
      const canvas = h("canvas", { role: "img", "aria-label": label });
      paints.push(() => paint(canvas));
      return h("div", { class: `lane${tall ? " tall" : ""}` }, h("span", { title: label }, link || label), canvas);
    };
    const rows = [lane("step at work", (canvas) => lago.draw.strip(canvas, episode.step.map((step) => lago.draw.colour(step))), true)];
    const used = episode.skills.map((skill, place) => {
      const shares = new Array(T).fill(0);
      episode.ranked.forEach((row, t) => row.forEach((other, k) => { if (other === place) shares[t] = episode.weights[t][k] / 100; }));
      return { skill, shares, total: shares.reduce((sum, each) => sum + each, 0) };
    }).sort((one, other) => other.total - one.total);
    const skillLane = ({ skill, shares }) => lane(`${name(skill.id)} ${skill.sentence}`, (canvas) => lago.draw.shade(canvas, shares, lago.draw.css("--accent")), true, h("a", { href: address("skill", [skill.id]) }, `${name(skill.id)} ${skill.sentence}`));
    rows.push(h("h3", { style: { "margin-top": "10px" } }, "Skills, by weight"), ...used.slice(0, 6).map(skillLane));
    if (used.length > 6) rows.push(h("details", {}, h("summary", { class: "small" }, `${used.length - 6} more skills`), used.slice(6).map(skillLane)));
    const conditions = episode.conditions.flatMap((own, step) => own.map((each) => ({ ...each, step })));
    if (conditions.length) rows.push(h("h3", { style: { "margin-top": "10px" } }, "Conditions, where they hold"), ...conditions.map((each) => lane(`${each.step + 1}: ${each.text}`, (canvas) => lago.draw.strip(canvas, [...each.held].map((one) => (one === "1" ? lago.draw.colour(each.step) : null))))));
    const cursor = h("div", { class: "cursor", "aria-hidden": "true" });
    const node = h("div", { class: "lanes" }, rows, cursor);
    let left = 0, width = 1;
    const paint = () => {
      const first = node.querySelector("canvas");
      const box = first.getBoundingClientRect(), own = node.getBoundingClientRect();
      left = box.left - own.left; width = box.width;
      paints.forEach((each) => each());
    };
    node.querySelectorAll("details").forEach((each) => each.addEventListener("toggle", () => requestAnimationFrame(paint)));
    new ResizeObserver(() => requestAnimationFrame(paint)).observe(node);
    node.addEventListener("pointerdown", (event) => { if (!event.target.matches("canvas")) return; const move = (to) => node.dispatchEvent(new CustomEvent("moment", { detail: Math.max(0, Math.min(T - 1, Math.floor(((to.clientX - node.getBoundingClientRect().left - left) / width) * T))) })); move(event); const up = () => { window.removeEventListener("pointermove", move); window.removeEventListener("pointerup", up); }; window.addEventListener("pointermove", move); window.addEventListener("pointerup", up); });
    return { node, paint, at: (t) => { cursor.style.transform = `translateX(${left + ((Math.min(t, T - 1) + 0.5) / T) * width}px)`; } };
  }

  // -- actions -----------------------------------------------------------------------------------------------------

  async function actions(episode, box, names) {
    await lago.curvesLibrary();
    const T = episode.steps, x = Array.from({ length: T }, (_, t) => t);
    const plots = [];
    const column = (rows, i) => rows.map((row) => (Array.isArray(row) ? row[i] : row));
    const base = (title, series, data, range) => new uPlot({
      title, width: Math.max(box.clientWidth > 880 ? box.clientWidth / 2 - 14 : box.clientWidth - 4, 220), height: 138, legend: { show: false }, cursor: { drag: { x: false, y: false }, y: false },
      scales: { x: { time: false }, y: { range } },
      axes: [{ stroke: lago.draw.css("--soft"), grid: { show: false }, ticks: { show: false }, size: 24 }, { stroke: lago.draw.css("--soft"), grid: { stroke: lago.draw.css("--line"), width: 1 }, ticks: { show: false }, size: 38 }],
      series: [{}, ...series], bands: episode.prior ? [{ series: [2, 3], fill: `${lago.draw.colour(1)}33` }] : [],
    }, data, box);
    box.replaceChildren();
    if (episode.prior) {
      const n = episode.prior[0].length;
      for (let i = 0; i < n; i += 1) {
        const mean = column(episode.prior, i), spread = column(episode.spread, i);
        plots.push(base(names[i] || `action ${i + 1}`, [{ stroke: lago.draw.colour(1), width: 1.5, dash: [5, 4] }, { stroke: "transparent" }, { stroke: "transparent" }, { stroke: lago.draw.colour(0), width: 2 }], [x, mean, mean.map((value, t) => Math.min(value + spread[t], 1.2)), mean.map((value, t) => Math.max(value - spread[t], -1.2)), column(episode.action, i)], [-1.25, 1.25]));
      }
    } else {
      const n = episode.probabilities[0].length;
      const done = episode.action.map((action, t) => episode.probabilities[t][action]);
      plots.push(base("probability of each action by the prior; dots: the action done", [...Array.from({ length: n }, (_, i) => ({ stroke: lago.draw.colour(i), width: 1.5, points: { show: false } })), { stroke: "transparent", points: { show: true, size: 6, fill: lago.draw.css("--ink"), stroke: lago.draw.css("--ink") } }], [x, ...Array.from({ length: n }, (_, i) => column(episode.probabilities, i)), done], [0, 1.02]));
      box.append(h("div", { class: "legend" }, Array.from({ length: n }, (_, i) => h("span", {}, dot(i), names[i] || `action ${i}`))));
    }
    return { at: (t) => plots.forEach((plot) => plot.setCursor({ left: plot.valToPos(Math.min(t, T - 1), "x"), top: 10 }, false)), close: () => plots.forEach((plot) => plot.destroy()) };
  }

  // -- now ---------------------------------------------------------------------------------------------------------

  function moment(episode, names, about) {
    const node = h("div", {});
    const said = (t) => {
      const step = episode.step[t];
      const conditions = episode.conditions[step] || [];
      const done = Array.isArray(episode.action[t]) ? episode.action[t] : null;
      const like = episode.like;
      return [h("h2", {}, `Step ${step + 1} of ${episode.plan.length}`), h("p", { dir: "auto" }, dot(step), episode.plan[step]),
        conditions.length ? h("ul", { class: "plain small" }, conditions.map((each) => h("li", {}, h("span", { class: each.held[t] === "1" ? "good" : "bad" }, each.held[t] === "1" ? "✓ holds" : "✗ fails"), ` ${each.text} `, h("span", { class: "soft num" }, `now ${number(each.values[t], 3)}`), h("div", { class: "soft" }, each.meaning)))) : h("p", { class: "soft small" }, "No condition: it is at work where nothing before it is, or where its words begin."),
        h("h3", { style: { "margin-top": "14px" } }, "Skills"), h("div", { class: "bars" }, episode.ranked[t].map((place, k) => (place < 0 ? null : [h("span", {}, h("a", { href: address("skill", [episode.skills[place].id]) }, name(episode.skills[place].id)), ` ${episode.skills[place].sentence} `, h("span", { class: "soft num" }, `${episode.weights[t][k]} %`)), lago.draw.meter(episode.weights[t][k] / 100, 0)]))),
        h("h3", { style: { "margin-top": "16px" } }, "Action"), done && episode.prior ? h("table", { class: "small" }, h("thead", {}, h("tr", {}, h("th", {}, "part"), h("th", { class: "num" }, "done"), h("th", { class: "num" }, "prior"), h("th", { class: "num" }, "spread"))), h("tbody", {}, done.map((value, i) => h("tr", {}, h("td", {}, names[i]), h("td", { class: "num" }, number(value)), h("td", { class: "num" }, number(episode.prior[t][i])), h("td", { class: "num" }, number(episode.spread[t][i])))))) : h("p", {}, `done: ${names[episode.action[t]] || episode.action[t]}; the prior gives it ${lago.percent(episode.probabilities[t][episode.action[t]])}`),
        episode.unfamiliar[t] > 1 ? h("p", { class: "bad small" }, `Unlike all training states: ${number(episode.unfamiliar[t])} times as far as is familiar.`) : null,
        like.of.length ? [h("h3", { style: { "margin-top": "16px" } }, "Moments like this one"), h("ul", { class: "plain small" }, like.of[t].map((other, k) => h("li", {}, h("a", { href: address("episode", [like.episodes[other]], { step: like.at[t][k] }) }, `${about.get(like.episodes[other]) || like.episodes[other]}, step ${like.at[t][k] + 1}`), h("span", { class: "soft" }, ` ${number(like.apart[t][k])} standard deviations apart`))))] : null];
    };
    return { node, at: (t) => { const flat = [said(t)].flat(3).filter(Boolean); node.replaceChildren(...flat); } };
  }

  function dot(place) { const node = h("span", { class: "dot" }); node.style.background = lago.draw.colour(place); return node; }

  // -- the view ------------------------------------------------------------------------------------------------------

  async function show(main, where, home) {
    const own = where.rest[0];
    const besideName = where.query.get("beside");
    const [episode, beside, all] = await Promise.all([load(`episode-${own}`), besideName ? load(`episode-${besideName}`) : null, load("episodes")]);
    const names = home.actions.names;
    const seconds = episode.seconds_per_step;
    const longest = Math.max(episode.steps, beside ? beside.steps : 0);
    const asked = where.query.get("step") !== null ? Number(where.query.get("step")) : where.query.get("t") !== null ? Math.round(Number(where.query.get("t")) / (seconds || 1)) : 0;
    let t = Math.max(0, Math.min(longest - 1, Number.isFinite(asked) ? asked : 0));
    const slider = h("input", { type: "range", id: "moment", min: 0, max: longest - 1, step: 1, value: t, "aria-label": "Moment of the episode" });
    const clock = h("output", { for: "moment", class: "num small" });
    const play = h("button", { type: "button", "aria-label": "Play" }, "▶");
    const pick = h("select", { id: "beside", onchange: () => { location.hash = link(t, pick.value); } }, h("option", { value: "" }, "nothing"), all.episodes.filter((each) => each.name !== own && each.task === episode.task).map((each) => h("option", { value: each.name }, `${each.about}${each.success ? "" : " (not solved)"}`)));
    pick.value = besideName || "";
    const about = new Map(all.episodes.map((each) => [each.name, `${each.task}: ${each.about}`]));
    const parts = [];
    function side(each, other) {
      const drawn = picture(each), laid = lanes(each), said = moment(each, names, about), plots = h("div", { class: "plots" });
      laid.node.addEventListener("moment", (event) => go(event.detail));
      const curves = h("details", { open: !other }, h("summary", {}, each.prior ? "Action done (solid) against the prior's (dashed, with its spread)" : "Action done against the prior's probabilities"), plots);
      const part = { at: (now) => { const at = Math.min(now, each.steps - 1); drawn.draw(at); laid.at(at); said.at(at); if (part.plots) part.plots.at(at); }, plots: null, laid };
      const open = async () => { if (curves.open && !part.plots && part.made !== true) { part.made = true; part.plots = await actions(each, plots, names); part.plots.at(Math.min(t, each.steps - 1)); } };
      curves.addEventListener("toggle", open);
      parts.push({ ...part, part, open });
      return { drawn, laid, said, curves };
    }
    const one = side(episode, Boolean(beside)), two = beside ? side(beside, true) : null;

    function link(now, other) { return address("episode", [own], { t: seconds ? (now * seconds).toFixed(3).replace(/\.?0+$/, "") || "0" : now, beside: other === undefined ? besideName : other }); }
    let wanted = false;
    function go(now) {
      t = now;
      slider.value = now;
      if (wanted) return;
      wanted = true;
      requestAnimationFrame(draw);
    }
    function draw() {
      wanted = false;
      clock.textContent = `step ${t + 1} of ${longest}${seconds ? `, ${(t * seconds).toFixed(2)} s` : ""}`;
      slider.setAttribute("aria-valuetext", clock.textContent);
      parts.forEach((each) => each.part.at(t));
      note();
    }
    let noting = null;
    function note() { clearTimeout(noting); noting = setTimeout(() => { if (slider.isConnected) lago.noted(link(t)); }, 120); }
    slider.addEventListener("input", () => go(Number(slider.value)));
    let playing = null;
    play.addEventListener("click", () => {
      if (playing) { clearInterval(playing); playing = null; play.textContent = "▶"; play.setAttribute("aria-label", "Play"); return; }
      if (t >= longest - 1) go(0);
      play.textContent = "❚❚"; play.setAttribute("aria-label", "Pause");
      playing = setInterval(() => { if (!slider.isConnected || t >= longest - 1) { play.click(); return; } go(t + 1); }, 50);
    });
    const title = (each) => h("div", { class: "row title" }, h("h2", { style: { margin: "0" } }, each.about), h("span", { class: `chip ${each.success ? "on" : "off"}` }, each.success ? "solved" : "not solved"), h("span", { class: "soft small" }, `${each.kind}, seed ${each.seed}, ${each.steps} steps`));
    main.replaceChildren(h("div", { class: "head" }, h("h1", { dir: "auto" }, episode.sentence), h("p", { class: "soft" }, h("a", { href: address("playbook", [episode.task]) }, episode.task))),
      h("div", { class: "row" }, h("label", { for: "beside" }, "beside it "), pick, h("button", { type: "button", onclick: async () => { const text = new URL(link(t), location.href).href; await navigator.clipboard.writeText(text).then(() => lago.say(`Copied: ${text}`), () => lago.say(text)); } }, "Copy a link to this moment")),
      h("div", { class: "scrub" }, play, slider, clock),
      beside
        ? h("div", { class: "stage" }, [[episode, one], [beside, two]].map(([each, made]) => h("div", { class: "paper" }, title(each), made.drawn.node, made.laid.node, made.curves, h("div", { style: { "margin-top": "12px" } }, made.said.node))))
        : h("div", {}, h("div", { class: "stage one" }, h("div", { class: "paper" }, title(episode), h("div", { style: { "margin-top": "12px" } }, one.drawn.node)), h("div", { class: "paper" }, one.said.node)), h("section", { class: "paper", style: { "margin-top": "16px" }, "aria-label": "Timeline" }, h("h2", {}, "Timeline"), one.laid.node), h("section", { class: "paper" }, one.curves)));
    await Promise.all(parts.map((each) => { each.laid.paint(); return each.open(); }));
    draw();
    new ResizeObserver(() => parts.forEach((each) => each.part.at(t))).observe(main);
    return { close: () => { if (playing) clearInterval(playing); parts.forEach((each) => each.part.plots && each.part.plots.close()); }, redraw: draw };
  }

  lago.views.episodes = list;
  lago.views.episode = show;
})();
