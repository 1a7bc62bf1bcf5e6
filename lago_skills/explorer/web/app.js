/* Which view is shown, and when it is shown again. */
"use strict";
(() => {
  const { h, load, place, views } = lago;
  const main = document.getElementById("main");
  const tabs = [["library", "Library", ["skill"]], ["playbook", "Playbooks", []], ["episodes", "Episodes", ["episode"]], ["study", "Study", []], ["ask", "Ask", []]];
  let shown = null;
  let turn = 0;

  function theme(chosen) {
    const dark = chosen ? chosen === "dark" : matchMedia("(prefers-color-scheme: dark)").matches;
    document.documentElement.dataset.theme = dark ? "dark" : "light";
  }
  theme(localStorage.getItem("lago-theme"));
  document.getElementById("theme").addEventListener("click", () => {
    const next = document.documentElement.dataset.theme === "dark" ? "light" : "dark";
    localStorage.setItem("lago-theme", next);
    theme(next);
    draw();
  });
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => { if (!localStorage.getItem("lago-theme")) { theme(null); draw(); } });
  document.querySelector(".skip").addEventListener("click", (event) => { event.preventDefault(); main.focus(); });

  function header(home, view) {
    document.getElementById("views").replaceChildren(...tabs.map(([name, said, kin]) => h("a", { href: `#/${name}`, "aria-current": name === view || kin.includes(view) ? "page" : null }, said)));
    document.getElementById("where").replaceChildren(...[
      h("span", { title: `bundle ${home.bundle}` }, `${home.study ? `${home.study} · ` : ""}${home.world}`), lago.inFolder ? h("span", { class: "chip" }, "written pages") : null,
      home.edits && !lago.inFolder ? lago.edit.whoBox() : null].filter(Boolean));
  }

  async function draw() {
    const own = (turn += 1);
    const where = place();
    const held = document.activeElement && document.activeElement.id;
    try {
      const home = await load("home");
      if (own !== turn) return;
      header(home, where.view);
      const view = views[where.view];
      if (!view) { main.replaceChildren(h("h1", {}, "Nothing is here"), h("p", {}, "Found no view of that name. ", h("a", { href: "#/library" }, "Go to the library."))); return; }
      if (shown && shown.close) shown.close();
      shown = await view(main, where, home) || {};
      if (own !== turn) return;
      const title = main.querySelector("h1");
      document.title = `${title && title.textContent ? title.textContent.slice(0, 70) : "Library"} – lago-skills`;
      if (held && document.getElementById(held)) document.getElementById(held).focus({ preventScroll: true });
    } catch (error) {
      if (own !== turn) return;
      if (error.status === 401) lago.edit.needToken();
      main.replaceChildren(h("div", { class: "paper" }, h("h1", {}, "This cannot be shown"), h("p", { class: "bad" }, error.message || String(error)), h("button", { type: "button", onclick: draw }, "Try again")));
      if (!(error instanceof lago.Refused)) throw error;
    }
  }

  function start() {
    const given = /^#token=([^&]+)/.exec(location.hash);
    if (given) { sessionStorage.setItem("lago-token", decodeURIComponent(given[1])); history.replaceState(null, "", "#/library"); }
    let before = "";
    window.addEventListener("hashchange", () => {
      const now = place();
      const key = [now.view, ...now.rest].join("/");
      if (key !== before) window.scrollTo(0, 0);
      before = key;
      draw();
    });
    lago.listen((what) => { if (what === "library") draw(); if (what === "token") lago.edit.needToken(); });
    draw();
    if (!lago.inFolder) follow();
  }

  /* Whether what is served has changed: then everything is read again, but nobody who writes is disturbed. */
  async function follow() {
    let known = null;
    for (;;) {
      await new Promise((done) => setTimeout(done, 3000));
      if (document.hidden) continue;
      try {
        const now = JSON.stringify(await lago.ask("data/state"));
        if (known !== null && now !== known) {
          lago.forget();
          if (document.querySelector("textarea, dialog[open]") || (document.activeElement && document.activeElement.matches("input, select"))) lago.say("The library has changed. It is read again when you go on.");
          else draw();
        }
        known = now;
      } catch { /* said above the page already */ }
    }
  }

  lago.draw_again = draw;
  start();
})();
