/* Changing something: who one is, the token, a change of words with its preview, and what a second editor is told. */
"use strict";
(() => {
  const { h, post, say, name } = lago;

  const who = () => localStorage.getItem("lago-who") || "";

  function whoBox() {
    const box = h("input", { type: "text", id: "who", size: 12, maxlength: 80, autocomplete: "name", placeholder: "your name", value: who() });
    box.addEventListener("change", () => localStorage.setItem("lago-who", box.value.trim()));
    return h("label", {}, "editing as ", box);
  }

  /* Do a change; then everything is read again. Tells what went wrong, and returns nothing then. */
  async function change(what, fields, done) {
    try {
      const answer = await post(what, { ...fields, who: who() });
      lago.forget();
      say(done(answer));
      lago.changed("library");
      return answer;
    } catch (error) {
      if (error.status === 401) needToken();
      else say(error.message, "warn");
      return null;
    }
  }

  function needToken() {
    if (document.getElementById("token-box")) return;
    const box = h("input", { type: "text", id: "token-box", autocomplete: "off", spellcheck: "false", "aria-label": "Token" });
    const form = h("form", { class: "row" }, h("span", {}, "The service wants a token, which it printed when it was started."), box, h("button", { type: "submit" }, "Use it"));
    form.addEventListener("submit", (event) => {
      event.preventDefault();
      sessionStorage.setItem("lago-token", box.value.trim());
      document.getElementById("notice").replaceChildren();
      lago.forget();
      lago.changed("library");
    });
    document.getElementById("notice").replaceChildren(h("div", { class: "bar warn" }, form));
    box.focus();
  }

  // -- words ---------------------------------------------------------------------------------------------------------

  function actions(before, after) {
    if (!before || !after) return h("p", { class: "soft small" }, "No demonstrated states are kept beside this library, so what a skill does cannot be shown.");
    return h("div", {}, h("h3", {}, "What it does in demonstrated states, before and after"), before.names.map((each, i) => h("div", { class: "range" },
      h("span", {}, each), h("div", {},
        lago.draw.range(before.low[i], before.middle[i], before.high[i], -1, 1, `before: ${before.low[i]} to ${before.high[i]}`),
        lago.draw.range(after.low[i], after.middle[i], after.high[i], -1, 1, `after: ${after.low[i]} to ${after.high[i]}`)))));
  }

  function consequences(said) {
    const steps = said.steps, tasks = said.actions;
    return h("div", {},
      h("h3", {}, steps.length ? `${steps.length} steps of plans are answered otherwise` : "No step of any plan is answered otherwise"),
      h("ul", { class: "plain small" }, steps.slice(0, 8).map((each) => h("li", {}, h("strong", {}, `${each.plan}, step ${each.step}`), ` ${each.sentence}: ${lago.percent(each.moved)} of the mixture moves`,
        each.first_before !== each.first_after ? `, ${name(each.first_after)} comes first instead of ${name(each.first_before)}` : ""))),
      tasks.length ? h("p", { class: "small" }, "Actions in recorded states differ in ", tasks.slice(0, 8).map((each, i) => `${i ? ", " : ""}${each.task} (by ${lago.number(each.apart, 3)}, in ${lago.percent(each.share)} of ${each.states} states)`), ".") : h("p", { class: "small soft" }, "Actions in recorded states stay as they are."));
  }

  function editor(card) {
    const area = h("textarea", { id: "words", rows: 3, maxlength: 6000, value: card.sentence });
    area.value = card.sentence;
    const shown = h("div", { "aria-live": "polite" });
    const save = h("button", { type: "submit", class: "main", disabled: true }, "Save");
    const look = h("button", { type: "button" }, "Preview");
    let version = card.version;
    let previewed = "";

    area.addEventListener("input", () => { save.disabled = true; });
    look.addEventListener("click", async () => {
      look.disabled = true;
      shown.replaceChildren(h("p", { class: "soft" }, "Looking at what would change…"));
      try {
        const said = await post("preview", { id: card.id, sentence: area.value });
        if (said.version !== version) shown.replaceChildren(theirs(card, area, () => { version = said.version; look.click(); }));
        else {
          previewed = area.value;
          save.disabled = false;
          shown.replaceChildren(h("p", {}, `The latent moves: cosine ${lago.number(said.cosine, 3)} with what it is now.`), actions(said.before, said.after), consequences(said),
            said.alike.length ? h("p", { class: "small" }, "Much like ", said.alike.map((each, i) => [i ? ", " : "", h("a", { href: lago.address("skill", [each.id]) }, each.name), each.near ? " (does the same)" : ""])) : null);
        }
      } catch (error) {
        shown.replaceChildren(h("p", { class: "bad" }, error.message));
        if (error.status === 401) needToken();
      }
      look.disabled = false;
    });

    const form = h("form", { class: "paper" }, h("h2", {}, "Change its words"), h("label", { for: "words" }, "Sentence; its latent and what is found follow at once"), area,
      h("div", { class: "row end" }, h("button", { type: "button", class: "quiet", onclick: () => lago.changed("library") }, "Cancel"), look, save), shown);
    form.addEventListener("submit", async (event) => {
      event.preventDefault();
      if (area.value !== previewed) return;
      save.disabled = true;
      try {
        const answer = await post("edit", { id: card.id, version, sentence: area.value, who: who() });
        lago.forget();
        say(`${name(card.id)} is version ${answer.skills[0].version} now. Undo is in its history.`);
        lago.changed("library");
      } catch (error) {
        save.disabled = false;
        if (error.status === 409) {
          lago.forget();
          const now = await lago.load(`skill-${card.id}`).catch(() => null);
          shown.replaceChildren(theirs(now || card, area, () => { if (now) version = now.version; look.click(); }, error.message));
        } else if (error.status === 401) needToken();
        else shown.replaceChildren(h("p", { class: "bad" }, error.message));
      }
    });
    return form;
  }

  /* Somebody else was first: both texts side by side; nothing is lost. */
  function theirs(now, area, again, message) {
    return h("div", { class: "paper", role: "alert" }, h("h3", {}, "Somebody else has changed this skill meanwhile"), message ? h("p", { class: "small soft" }, message) : null,
      h("dl", {}, h("dt", {}, "now"), h("dd", {}, now.sentence), h("dt", {}, "yours"), h("dd", {}, area.value)),
      h("div", { class: "row end" }, h("button", { type: "button", onclick: () => { area.value = now.sentence; again(); } }, "Take theirs"), h("button", { type: "button", class: "main", onclick: again }, "Keep mine, and preview it on theirs")));
  }

  lago.edit = { who, whoBox, change, needToken, editor, consequences };
})();
