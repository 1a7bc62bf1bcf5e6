/* A skill's card: what it says, what it does, where it works, where it comes from, what is like it, and how it came to be so. */
"use strict";
(() => {
  const { h, load, address, name, number } = lago;

  function motionPart(motion, card) {
    if (motion && motion.clips.length && motion.anchors.length) {
      const canvas = h("canvas", { class: "motion", role: "img", "aria-label": `How things move where this was demonstrated: ${card.sentence}` });
      let stop = () => {};
      const buttons = motion.clips.map((clip, place) => h("button", { type: "button", "aria-pressed": String(place === 0), onclick: () => show(place) }, clip.task));
      const link = h("a", {});
      function show(place) {
        const clip = motion.clips[place];
        stop();
        buttons.forEach((each, i) => each.setAttribute("aria-pressed", String(i === place)));
        stop = lago.draw.loop(canvas, clip.points, motion.anchors);
        link.textContent = `this part of the episode`;
        link.href = address("episode", [clip.episode], { step: clip.start });
      }
      const part = h("section", { class: "paper" }, h("h2", {}, "What it does"), canvas,
        lago.draw.legend(motion.anchors, lago.draw.panels(motion.clips[0].points, motion.anchors).used),
        h("div", { class: "row" }, h("div", { class: "choice scroll", role: "group", "aria-label": "Demonstrations" }, buttons), link),
        h("p", { class: "soft small" }, `From ${motion.segments} demonstrated segments.`), doesPart(card));
      requestAnimationFrame(() => show(0));
      return part;
    }
    return h("section", { class: "paper" }, h("h2", {}, "What it does"), doesPart(card) || h("p", { class: "soft" }, motion && motion.clips.length ? "This world has no anchors whose ways could be drawn." : "Neither demonstrations nor demonstrated states are beside this library. Serve it with --study STUDY, or with --library FOLDER."));
  }

  function doesPart(card) {
    const does = card.does;
    if (!does) return null;
    return h("details", {}, h("summary", {}, `Its actions in ${does.states} demonstrated states`), does.names.map((each, i) => h("div", { class: "range" }, h("span", {}, each, h("span", { class: "soft num" }, ` ${number(does.low[i])} … ${number(does.middle[i])} … ${number(does.high[i])}`)),
      lago.draw.range(does.low[i], does.middle[i], does.high[i], Math.min(-1, does.low[i]), Math.max(1, does.high[i]), `${number(does.low[i])} to ${number(does.high[i])}, middle ${number(does.middle[i])}`))));
  }

  function wherePart(motion) {
    if (!motion || !motion.where.length) return null;
    const line = (each) => h("div", { class: "range" }, h("span", { title: each.meaning }, each.feature, h("span", { class: "soft num" }, ` ${number(each.low)} to ${number(each.high)} ${each.unit}`)),
      lago.draw.range(each.low, each.middle, each.high, each.least, each.most, `${each.meaning}: ${number(each.low)} to ${number(each.high)} ${each.unit}, of ${number(each.least)} to ${number(each.most)} in all demonstrations`));
    return h("section", { class: "paper" }, h("h2", {}, "Where it works"), h("p", { class: "soft small" }, "Nine in ten of its demonstrated states, within the range of all demonstrations; the most telling features first."),
      motion.where.slice(0, 7).map(line), motion.where.length > 7 ? h("details", {}, h("summary", {}, `${motion.where.length - 7} more features`), motion.where.slice(7).map(line)) : null);
  }

  function likes(title, rows, said, empty) {
    return h("section", { class: "paper" }, h("h2", {}, title), rows.length
      ? h("ul", { class: "plain" }, rows.map((each) => h("li", { class: "near" }, h("span", {}, h("a", { href: address("skill", [each.id]) }, each.name), ` ${each.sentence}`, each.enabled ? "" : " (disabled)"), h("span", { class: "num", title: said }, number(each.apart === null || each.apart === undefined ? each.score : each.apart)))))
      : h("p", { class: "soft" }, empty), rows.length ? h("p", { class: "soft small" }, said) : null);
  }

  function answersPart(card, study) {
    if (!card.answers.length) return h("section", { class: "paper" }, h("h2", {}, "Where it is used"), h("p", { class: "soft" }, "No step of a plan in this bundle finds it."));
    const success = new Map();
    if (study) study.rows.filter((row) => row.method === "library").forEach((row) => success.set(row.task, row));
    return h("section", { class: "paper" }, h("h2", {}, "Where it is used"), h("div", { class: "scroll" }, h("table", {}, h("thead", {}, h("tr", {}, h("th", {}, "step of a plan"), h("th", { class: "num" }, "weight"), h("th", {}, "library alone there"))),
      h("tbody", {}, card.answers.slice(0, 12).map((each) => {
        const row = success.get(each.task);
        return h("tr", {}, h("td", {}, h("a", { href: address("playbook", [each.task]) }, each.plan), ` step ${each.step}`, h("div", { class: "soft small" }, each.sentence)), h("td", { class: "num" }, number(each.weight)),
          h("td", {}, row ? h("span", { class: "num" }, `${number(row.success)} of ${row.episodes}`) : h("span", { class: "soft" }, "not tried")));
      })))));
  }

  function provenancePart(card, plans) {
    const from = card.provenance;
    const tasks = from.tasks || [];
    const authors = plans.flatMap((plan) => plan.versions.filter((version) => version.in_use).map((version) => ({ task: plan.task, version })));
    const editors = [...new Set(card.history.filter((each) => each.who !== "build").map((each) => each.who))];
    return h("section", { class: "paper" }, h("h2", {}, "Where it comes from"), h("dl", {},
      h("dt", {}, "made by"), h("dd", {}, from.by || "nobody has said"),
      h("dt", {}, "tasks"), h("dd", {}, tasks.length ? tasks.map((task, i) => [i ? ", " : "", h("a", { href: address("playbook", [task]) }, task)]) : "none"),
      from.label && from.label !== card.sentence ? [h("dt", {}, "demonstrated as"), h("dd", {}, from.label)] : null,
      h("dt", {}, "cut by"), h("dd", {}, (from.cut || []).join(", ") || "–"),
      h("dt", {}, "support"), h("dd", { class: "num" }, Object.entries(card.support).map(([key, value]) => `${lago.count(Math.round(value * 1000) / 1000)} ${key}`).join(", ") || "none"),
      h("dt", {}, "edited by"), h("dd", {}, editors.join(", ") || "nobody")),
      authors.map(({ task, version }) => h("details", {}, h("summary", {}, `The answer for ${task}: ${version.by}, ${lago.when(version.at)}`), h("p", { class: "soft small" }, version.source), h("h3", {}, "What was asked"), h("pre", { tabindex: "0" }, version.prompt), h("h3", {}, "What was answered"), h("pre", { tabindex: "0" }, version.response))));
  }

  function historyPart(card, edits) {
    return h("section", { class: "paper" }, h("h2", {}, "History"), h("ul", { class: "plain" }, card.history.map((each, place) => h("li", {}, h("div", { class: "row" }, h("strong", {}, `version ${each.version}`), h("span", { class: "soft small" }, `${each.action} by ${each.who}, ${lago.when(each.at)}`),
      edits && place === 0 && each.action !== "add" ? h("button", { type: "button", onclick: () => lago.edit.change("undo", { change: each.change }, () => `Change ${each.change} is undone.`) }, "Undo this change") : null),
      h("div", {}, each.sentence, each.enabled ? "" : " (disabled)")))));
  }

  function buttons(card, home) {
    if (!home.edits || lago.inFolder) return null;
    const verb = card.enabled ? "disable" : "enable";
    const shown = h("div", { "aria-live": "polite" });
    const edit = h("button", { type: "button", onclick: () => { shown.replaceChildren(lago.edit.editor(card)); document.getElementById("words").focus(); } }, "Change words");
    const turn = h("button", { type: "button", onclick: async () => {
      if (!card.enabled) { lago.edit.change("enable", { id: card.id, version: card.version }, () => `${card.name} is enabled.`); return; }
      shown.replaceChildren(h("p", { class: "soft" }, "Looking at what would change…"));
      try {
        const said = await lago.post("consequences", { id: card.id });
        shown.replaceChildren(h("div", { class: "paper" }, h("h2", {}, "If it is disabled"), lago.edit.consequences(said), h("div", { class: "row end" }, h("button", { type: "button", class: "quiet", onclick: () => shown.replaceChildren() }, "Leave it"),
          h("button", { type: "button", class: "main", onclick: () => lago.edit.change("disable", { id: card.id, version: card.version }, () => `${card.name} is disabled: no search finds it.`) }, "Disable it"))));
      } catch (error) { if (error.status === 401) lago.edit.needToken(); shown.replaceChildren(h("p", { class: "bad" }, error.message)); }
    } }, verb === "disable" ? "Disable…" : "Enable");
    const merge = h("button", { type: "button", onclick: () => {
      const into = h("select", { id: "into" }, [...card.like_in_behaviour, ...card.like_in_words].filter((each, i, all) => all.findIndex((other) => other.id === each.id) === i).map((each) => h("option", { value: each.id }, `${each.name} ${each.sentence.slice(0, 70)}`)));
      shown.replaceChildren(h("form", { class: "paper", onsubmit: (event) => { event.preventDefault(); lago.edit.change("merge", { id: card.id, version: card.version, into: Number(into.value) }, () => `${card.name} is merged into ${name(into.value)}.`); } }, h("h2", {}, "Merge it into another"), h("label", { for: "into" }, "The other stands for both from then on: support and tasks are added up"), h("div", { class: "row" }, into, h("button", { type: "submit", class: "main" }, "Merge"))));
      into.focus();
    } }, "Merge…");
    return card.merged_into ? null : h("div", {}, h("div", { class: "row" }, edit, turn, merge), shown);
  }

  async function show(id, home) {
    const [card, motion, study] = await Promise.all([load(`skill-${id}`), home.study ? load(`motion-${id}`).catch(() => null) : null, home.study ? load("study").catch(() => null) : null]);
    const tasks = (card.provenance.tasks || []).filter((task) => home.tasks.some((each) => each.id === task)).slice(0, 3);
    const plans = home.study ? (await Promise.all(tasks.map((task) => load(`plan-${task}`).catch(() => null)))).filter(Boolean) : [];
    const state = card.merged_into ? h("span", { class: "chip off" }, `merged into ${name(card.merged_into)}`) : card.enabled ? h("span", { class: "chip on" }, "enabled") : h("span", { class: "chip off" }, "disabled");
    return h("article", { "aria-labelledby": "card" }, h("div", { class: "paper" }, h("div", { class: "row" }, h("span", { class: "mono soft" }, card.name), h("span", { class: "soft small" }, `version ${card.version}`), state, h("a", { class: "button", style: { "margin-left": "auto" }, href: address("library") }, "Close")),
      h("h1", { class: "sentence-large", id: "card", dir: "auto" }, card.sentence), buttons(card, home)),
      motionPart(motion, card), wherePart(motion), h("div", { class: "grid", style: { margin: "16px 0" } }, likes("Nearest by behaviour", card.like_in_behaviour, card.like_in_behaviour.some((each) => each.apart !== null) ? "how far apart the actions are, in half ranges: 0 is the same" : "cosine of the latents, which are learned from behaviour", "No other skill is enabled."), likes("Nearest by words", card.like_in_words, "cosine of the sentences", "This library keeps no embeddings of its sentences.")),
      answersPart(card, study), provenancePart(card, plans), historyPart(card, home.edits && !lago.inFolder));
  }

  lago.skill = { show };
})();
