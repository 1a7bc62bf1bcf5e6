/* The library: a list and a gallery that hold ten thousand, a map, a search that answers while one types. */
"use strict";
(() => {
  const { h, load, address, name } = lago;
  const ROW = 46, TILE_HEIGHT = 252, TILE_WIDTH = 250;
  let index = null;
  let indexOf = "";

  /* All skills as columns; the first page's are there at once, the rest comes in parts. */
  function known(home) {
    const key = `${home.bundle}/${home.change}`;
    if (index && indexOf === key) return index;
    indexOf = key;
    index = { id: [], sentence: [], small: [], state: [], tasks: [], steps: [], names: home.first.tasks_known, complete: null };
    add(home.first);
    index.complete = (async () => {
      for (let part = 0; part < home.parts; part += 1) { add(await load(`skills-${part}`)); document.dispatchEvent(new Event("lago-more")); }
    })();
    index.complete.catch((error) => lago.say(error.message, "warn"));
    return index;
  }

  function add(columns) {
    for (let i = 0; i < columns.id.length; i += 1) {
      index.id.push(columns.id[i]); index.sentence.push(columns.sentence[i]); index.small.push(columns.sentence[i].toLowerCase());
      index.state.push(columns.state[i]); index.tasks.push(columns.tasks[i]); index.steps.push(columns.steps[i]);
    }
  }

  /* Places of the skills that have all words, those where a word begins with them first. */
  function found(words, task, state) {
    const wanted = words.toLowerCase().split(/\s+/).filter(Boolean);
    const asName = /^s?(\d+)$/.exec(words.trim());
    const hits = [], later = [];
    for (let i = 0; i < index.id.length; i += 1) {
      if (state === "on" && index.state[i] !== 0) continue;
      if (state === "off" && index.state[i] === 0) continue;
      if (task !== "" && !index.tasks[i].includes(Number(task))) continue;
      const text = index.small[i];
      if (asName && index.id[i] === Number(asName[1])) hits.unshift(i);
      else if (wanted.every((word) => text.includes(word))) (wanted.length && !wanted.every((word) => text.startsWith(word) || text.includes(` ${word}`)) ? later : hits).push(i);
    }
    return hits.concat(later);
  }

  // -- list and gallery ---------------------------------------------------------------------------------------------

  /* Only what is in view is in the page. */
  function listing(home, chosen, gallery) {
    const items = h("ul", {});
    const box = h("div", { class: `list paper${gallery ? " tiles" : ""}`, tabindex: "0", role: "region", "aria-label": "Skills" }, items);
    let places = [];
    let shown = 0;
    const columns = () => (gallery ? Math.max(1, Math.floor((box.clientWidth + 12) / (TILE_WIDTH + 12))) : 1);

    /* Rows that stay in view stay the nodes that they are: scrolling makes only those that come in. */
    const nodes = new Map();
    function draw() {
      const per = columns(), high = gallery ? TILE_HEIGHT : ROW;
      const tall = `${Math.ceil(places.length / per) * high}px`;
      if (items.style.height !== tall) items.style.height = tall;
      const first = Math.max(0, Math.floor(box.scrollTop / high) - 3) * per;
      const last = Math.min(places.length, (Math.ceil((box.scrollTop + box.clientHeight) / high) + 3) * per);
      if (shown !== per) { nodes.forEach((node) => node.remove()); nodes.clear(); shown = per; }
      nodes.forEach((node, at) => { if (at < first || at >= last) { if (!node.contains(document.activeElement)) { node.remove(); nodes.delete(at); } } });
      for (let at = first; at < last; at += 1) if (!nodes.has(at)) { const node = item(places[at], at, per, high); nodes.set(at, node); items.append(node); }
    }

    function item(place, at, per, high) {
      const id = index.id[place], off = index.state[place] !== 0;
      const own = index.tasks[place].map((task) => index.names[task]);
      const facts = { href: address("skill", [id], keep()), "aria-current": id === chosen ? "true" : null };
      const link = gallery
        ? h("a", { ...facts, class: `tile${off ? " off" : ""}` }, thumbnail(id, home), h("span", { class: "sentence", dir: "auto" }, index.sentence[place]), h("span", { class: "soft small" }, `${name(id)} · ${own.length} ${own.length === 1 ? "task" : "tasks"}`))
        : h("a", { ...facts, class: `line${off ? " off" : ""}` }, h("span", { class: "mono soft" }, name(id)), h("span", { class: "sentence", dir: "auto", title: index.sentence[place].slice(0, 300) }, index.sentence[place].slice(0, 400)), h("span", { class: "tasks" }, own.slice(0, 2).map((task) => h("span", { class: "chip" }, task)), own.length > 2 ? h("span", { class: "chip" }, `+${own.length - 2}`) : null), h("span", { class: "support soft small num" }, index.steps[place] ? `${lago.count(index.steps[place])} steps` : ""));
      const li = h("li", { "aria-setsize": places.length, "aria-posinset": at + 1 }, link);
      li.style.transform = `translateY(${Math.floor(at / per) * high}px)`;
      li.style.height = `${high - (gallery ? 12 : 0)}px`;
      if (gallery) { li.style.left = `${(100 * (at % per)) / per}%`; li.style.width = `calc(${100 / per}% - 12px)`; }
      return li;
    }

    let wanted = false;
    box.addEventListener("scroll", () => { if (!wanted) { wanted = true; requestAnimationFrame(() => { wanted = false; draw(); }); } }, { passive: true });
    box.addEventListener("keydown", (event) => {
      const links = [...items.querySelectorAll("a")].sort((one, other) => one.parentElement.getAttribute("aria-posinset") - other.parentElement.getAttribute("aria-posinset")), at = links.indexOf(document.activeElement);
      const step = { ArrowDown: columns(), ArrowUp: -columns(), ArrowRight: gallery ? 1 : 0, ArrowLeft: gallery ? -1 : 0 }[event.key];
      if (!step) return;
      event.preventDefault();
      const next = links[at < 0 ? 0 : at + step];
      if (next) { next.focus({ preventScroll: true }); next.scrollIntoView({ block: "nearest" }); }
    });
    new ResizeObserver(() => { shown = 0; draw(); }).observe(box);
    return { node: box, set: (now) => { places = now; shown = 0; draw(); } };
  }

  function thumbnail(id, home) {
    const canvas = h("canvas", { class: "thumb", role: "img", "aria-label": "Its motion" });
    if (home.study) load(`motion-${id}`).then((motion) => {
      if (motion.clips.length && canvas.isConnected) lago.draw.scene(canvas, motion.clips[0].points, motion.anchors, motion.clips[0].points.length - 1, { small: true });
    }).catch(() => {});
    return canvas;
  }

  // -- map ------------------------------------------------------------------------------------------------------------

  let frame = null;
  function map(home, chosen, go) {
    const iframe = h("iframe", { src: "map.html", title: "Map of latents; the list has the same skills in words", sandbox: location.protocol === "file:" ? null : "allow-scripts" }); // a sandboxed page on disk could not load its neighbours
    const over = h("div", { class: "over", "aria-live": "polite" });
    const legend = h("div", { class: "legend" });
    let points = null, placeOf = null, hits = null, slow = false, half = false;
    frame = iframe;

    async function draw() {
      points = await load("map");
      half = slow && points.id.length > 2000;
      iframe.classList.toggle("half", half);
      placeOf = new Map(points.id.map((id, place) => [id, place]));
      const span = 1110;
      const groups = points.verb.map((verb, i) => (points.enabled[i] ? Math.min(verb, 6) : 7));
      const colours = [0, 1, 2, 3, 4, 5, 6, 7].map(lago.draw.colour);
      const dimmed = hits ? groups.map((group, i) => (hits.has(points.id[i]) ? group : 8)) : groups;
      send({ map: "draw", x: points.x.map((x) => x / span), y: points.y.map((y) => y / span), group: dimmed, colours: [...colours, lago.draw.css("--line")], background: lago.draw.css("--paper"), dark: document.documentElement.dataset.theme === "dark", size: (points.id.length > 2000 ? 4 : points.id.length > 200 ? 6 : 11) / (half ? 1.6 : 1) });
      const names = [...points.verbs.slice(0, 6), ...(points.verbs.length > 6 ? ["other verbs"] : [])];
      legend.replaceChildren(...names.map((verb, i) => h("span", {}, dot(colours[i]), verb)), ...(points.enabled.some((each) => !each) ? [h("span", {}, dot(colours[7]), "disabled or merged")] : []));
    }

    function dot(tint) { const node = h("span", { class: "dot" }); node.style.background = tint; return node; }
    function send(said) { if (iframe.contentWindow) iframe.contentWindow.postMessage(said, "*"); }
    function hear(event) {
      if (!iframe.isConnected) { window.removeEventListener("message", hear); return; }
      if (event.source !== iframe.contentWindow) return;
      const said = event.data;
      if (said.map === "ready") { slow = said.slow; draw(); }
      if (said.map === "drawn") { iframe.dataset.drawn = String(points.id.length); if (chosen && placeOf.has(chosen)) send({ map: "select", points: [placeOf.get(chosen)] }); }
      if (said.map === "over") over.replaceChildren(...(said.point >= 0 ? [h("span", {}, `${name(points.id[said.point])} ${sentenceOf(points.id[said.point])}`)] : []));
      if (said.map === "select" && said.points.length === 1) go(points.id[said.points[0]]);
      if (said.map === "measured") { iframe.dataset.rate = said.rate.toFixed(1); iframe.dataset.views = said.drawn; }
      if (said.map === "failed") over.replaceChildren(h("span", {}, "No WebGL here; the list has the same skills."));
    }
    window.addEventListener("message", hear);
    return {
      node: h("div", {}, h("div", { class: "map paper" }, iframe, over), h("div", { class: "row", style: { "margin-top": "8px" } }, legend, h("button", { type: "button", class: "quiet", onclick: () => send({ map: "reset" }) }, "Whole map"))),
      set: (places, all) => { hits = all ? null : new Set(places.map((place) => index.id[place])); if (points) draw(); },
      redraw: () => { if (points) draw(); },
    };
  }

  function sentenceOf(id) { const place = index.id.indexOf(id); return place < 0 ? "" : index.sentence[place].slice(0, 160); }

  // -- the view ---------------------------------------------------------------------------------------------------------

  const chosenNow = { words: "", task: "", state: "", as: "" };
  function keep() { return { q: chosenNow.words, task: chosenNow.task, state: chosenNow.state, as: chosenNow.as }; }

  async function show(main, where, home, id) {
    const query = where.query;
    Object.assign(chosenNow, { words: query.get("q") || "", task: query.get("task") || "", state: query.get("state") || "", as: query.get("as") || (home.study && home.skills <= 60 && !id ? "gallery" : "list") });
    known(home);
    const way = id && chosenNow.as === "gallery" ? "list" : chosenNow.as;
    const box = h("input", { type: "search", id: "search", class: "grow", placeholder: "Words, or s0042", value: chosenNow.words, "aria-label": "Search skills by words", autocomplete: "off" });
    const task = h("select", { "aria-label": "Task" }, h("option", { value: "" }, "all tasks"), index.names.map((each, i) => h("option", { value: i }, each)));
    task.value = chosenNow.task;
    const state = h("select", { "aria-label": "State" }, [["", "all"], ["on", "enabled"], ["off", "disabled or merged"]].map(([value, said]) => h("option", { value }, said)));
    state.value = chosenNow.state;
    const tally = h("p", { class: "soft small", role: "status" });
    const go = (chosen) => { location.hash = address("skill", [chosen], keep()); };
    const shown = way === "map" ? map(home, id, go) : listing(home, id, way === "gallery");
    const ways = h("div", { class: "choice", role: "group", "aria-label": "Show as" }, [["gallery", "Gallery"], ["list", "List"], ["map", "Map"]].map(([value, said]) => h("button", { type: "button", "aria-pressed": String(way === value), onclick: () => { chosenNow.as = value; location.hash = address(id && value !== "gallery" ? "skill" : "library", id && value !== "gallery" ? [id] : [], keep()); } }, said)));

    function search() {
      const began = performance.now();
      Object.assign(chosenNow, { words: box.value, task: task.value, state: state.value });
      const places = found(box.value, task.value, state.value);
      shown.set(places, places.length === index.id.length);
      tally.textContent = `${lago.count(places.length)} of ${lago.count(home.skills)} skills` + (index.id.length < home.skills ? `, ${lago.count(index.id.length)} read so far` : "") + (home.skills !== home.active ? `; ${lago.count(home.active)} found by searches` : "");
      lago.noted(address(id ? "skill" : "library", id ? [id] : [], keep()));
      main.dataset.searched = (performance.now() - began).toFixed(2);
    }
    box.addEventListener("input", search);
    task.addEventListener("change", search);
    state.addEventListener("change", search);
    const more = () => { if (box.isConnected) search(); else document.removeEventListener("lago-more", more); };
    document.addEventListener("lago-more", more);

    const side = h("div", { class: "side" }, h("div", { class: "row", style: { "margin-bottom": "10px" } }, box, meaning(home, box), task, state, ways), tally, shown.node);
    const head = h("div", { class: "head" }, h("h1", {}, id ? "" : "Library"), id ? null : h("p", { class: "soft" }, `What ${home.world} skills the library holds: sentences, and the latents that stand for what they do.`));
    const card = id ? h("div", { class: "card" }, h("p", { class: "wait" }, "Loading…")) : null;
    main.replaceChildren(...(id ? [] : [head]), h("div", { class: `library${id ? " open" : ""}` }, side, card));
    search();
    if (id) {
      const made = await lago.skill.show(id, home).catch((error) => h("div", { class: "paper" }, h("h1", {}, name(id)), h("p", { class: "bad" }, error.message)));
      card.replaceChildren(made);
    }
    return { redraw: () => shown.redraw && shown.redraw() };
  }

  function meaning(home, box) {
    if (!home.edits || lago.inFolder) return null;
    return h("button", { type: "button", title: "Which skills would answer this sentence, by the latent that the decoder gives it", onclick: async () => {
      if (!box.value.trim()) { box.focus(); return; }
      try {
        const said = await lago.post("search", { sentence: box.value });
        const dialog = h("dialog", { class: "paper", "aria-labelledby": "meaning" }, h("h2", { id: "meaning" }, "By meaning"), h("ul", { class: "plain" }, said.skills.map((each) => h("li", { class: "near" }, h("span", {}, h("a", { href: address("skill", [each.id]), onclick: () => dialog.close() }, each.name), ` ${each.sentence}`), h("span", { class: "num" }, lago.number(each.score))))), h("form", { method: "dialog", class: "row end" }, h("button", {}, "Close")));
        document.body.append(dialog);
        dialog.addEventListener("close", () => dialog.remove());
        dialog.showModal();
      } catch (error) { if (error.status === 401) lago.edit.needToken(); else lago.say(error.message, "warn"); }
    } }, "By meaning");
  }

  lago.views.library = (main, where, home) => show(main, where, home, null);
  lago.views.skill = (main, where, home) => show(main, where, home, Number(where.rest[0]));
  lago.library = { found, known, measure: (seconds) => frame && frame.contentWindow.postMessage({ map: "measure", seconds }, "*") };
})();
