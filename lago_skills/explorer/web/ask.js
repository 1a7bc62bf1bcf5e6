/* A new sentence: which playbook is near, how the library's skills would serve, and what a planner would be asked. */
"use strict";
(() => {
  const { h, load, address, number } = lago;

  /* Without a text model: tasks and skills that share most words with a sentence. */
  function byWords(sentence, rows) {
    const small = new Set("a an the to of and in on its it with at from".split(" "));
    const words = (text) => new Set(text.toLowerCase().match(/[\p{L}\p{N}]+/gu)?.filter((word) => !small.has(word)) || []);
    const wanted = words(sentence);
    return rows.map((row) => { const own = words(row.sentence); const both = [...wanted].filter((word) => own.has(word)).length; return { ...row, score: both / Math.max(Math.sqrt(wanted.size * own.size), 1) }; }).filter((row) => row.score > 0).sort((one, other) => other.score - one.score);
  }

  async function alone(sentence, home) {
    const tasks = byWords(sentence, home.tasks).slice(0, 2);
    const first = home.first;
    const skills = byWords(sentence, first.id.map((id, i) => ({ id, sentence: first.sentence[i] }))).slice(0, 6);
    const plan = tasks.length ? await load(`plan-${tasks[0].id}`) : null;
    return [h("p", { class: "bar", style: { "border-radius": "8px", margin: "0 0 16px" } }, h("span", {}, "These pages know no text model, so this goes by shared words alone, which takes opposites for each other. A service with --edit goes by meaning, and writes the planner's request.")),
      h("section", { class: "paper" }, h("h2", {}, "Nearest playbooks by shared words"), tasks.length ? h("ul", { class: "plain" }, tasks.map((each) => h("li", { class: "near" }, h("span", {}, h("a", { href: address("playbook", [each.id]) }, each.id), ` ${each.sentence}`), h("span", { class: "num" }, number(each.score))))) : h("p", { class: "soft" }, "No task shares a word with it."), plan ? h("ol", { class: "small" }, plan.plans[0].steps.map((step) => h("li", {}, step.sentence))) : null),
      h("section", { class: "paper" }, h("h2", {}, "Skills by shared words"), h("ul", { class: "plain" }, skills.map((each) => h("li", { class: "near" }, h("span", {}, h("a", { href: address("skill", [each.id]) }, lago.name(each.id)), ` ${each.sentence}`), h("span", { class: "num" }, number(each.score))))))];
  }

  function answered(said) {
    const match = said.match;
    const copy = h("button", { type: "button", onclick: () => navigator.clipboard.writeText(said.request.prompt).then(() => lago.say("The request is copied."), () => lago.say("This browser lets no page copy; select the text below.", "warn")) }, "Copy the request");
    return [h("section", { class: "paper" }, h("h2", {}, "Nearest playbook"), match ? [h("p", {}, match.task ? ["It asks for ", h("a", { href: address("playbook", [match.task]) }, match.task), ` (probability ${number(match.score)}).`] : ["No playbook is near. The nearest is ", h("a", { href: address("playbook", [match.nearest]) }, match.nearest), ` (${number(match.score)}).`], " Runner-up: ", h("a", { href: address("playbook", [match.runner_up]) }, match.runner_up), ` (${number(match.runner_up_score)}).`), h("ol", { class: "small" }, match.steps.map((each) => h("li", {}, each)))] : h("p", { class: "soft" }, "No matcher of wordings has been trained for this study: lago plan find trains one.")),
      h("section", { class: "paper" }, h("h2", {}, "Skills that would answer it as a step"), h("ul", { class: "plain" }, said.skills.map((each) => h("li", { class: "near" }, h("span", {}, h("a", { href: address("skill", [each.id]) }, each.name), ` ${each.sentence} `, h("span", { class: "soft small num" }, `words ${number(each.words)}`)), h("span", { class: "num", title: "cosine of the latents" }, number(each.score))))), h("p", { class: "soft small" }, "Cosine of the latents, which are learned from behaviour; beside each sentence the cosine of the words.")),
      h("section", { class: "paper" }, h("h2", {}, "The request for a planner"), h("p", { class: "soft small" }, `As lago plan would ask it, in the scene of ${said.request.like}. Send it to a model of your choice, or put the task into the study and run: lago plan STUDY --live`), h("div", { class: "row" }, copy), h("pre", { tabindex: "0", id: "request" }, said.request.prompt), h("details", {}, h("summary", {}, "The schema of its answer"), h("pre", { tabindex: "0" }, said.request.schema)))];
  }

  lago.views.ask = async (main, where, home) => {
    const box = h("input", { type: "text", id: "question", class: "grow", value: where.query.get("q") || "", placeholder: "open the drawer by its handle", maxlength: 2000, autocomplete: "off" });
    const shown = h("div", { "aria-live": "polite", style: { "margin-top": "16px" } });
    async function answer(sentence) {
      shown.replaceChildren(h("p", { class: "soft" }, "Looking…"));
      try { shown.replaceChildren(...(home.edits && home.study && !lago.inFolder ? answered(await lago.post("ask", { sentence })) : await alone(sentence, home))); } catch (error) { if (error.status === 401) lago.edit.needToken(); shown.replaceChildren(h("p", { class: "bad" }, error.message)); }
    }
    main.replaceChildren(h("div", { class: "head" }, h("h1", {}, "Ask"), h("p", { class: "soft" }, "Say in one sentence what is to be done.")), h("form", { class: "row", onsubmit: (event) => { event.preventDefault(); lago.noted(address("ask", [], { q: box.value })); if (box.value.trim()) answer(box.value.trim()); } }, h("label", { for: "question", class: "hidden" }, "Task sentence"), box, h("button", { type: "submit", class: "main" }, "Ask")), shown);
    if (box.value.trim()) answer(box.value.trim());
    return {};
  };
})();
