/* What every view leans on: building elements (texts stay texts), loading documents, addresses, changes. */
"use strict";
window.lago = (() => {
  const documents = new Map();
  const waiting = new Map();
  const inFolder = window.lagoPlace === "folder";
  const views = {};
  const listeners = [];

  // -- elements --------------------------------------------------------------------------------------------------

  function put(node, child) {
    if (child === null || child === undefined || child === false) return;
    if (Array.isArray(child)) child.forEach((each) => put(node, each));
    else node.append(child instanceof Node ? child : String(child));
  }

  function assign(node, name, value) {
    if (value === null || value === undefined || value === false) return;
    if (name.startsWith("on")) node.addEventListener(name.slice(2), value);
    else if (name === "style") Object.entries(value).forEach(([key, each]) => node.style.setProperty(key, each));
    else if (name === "value") node.value = value;
    else node.setAttribute(name, value === true ? "" : value);
  }

  function h(kind, properties, ...children) {
    const node = document.createElement(kind);
    Object.entries(properties || {}).forEach(([name, value]) => assign(node, name, value));
    put(node, children);
    return node;
  }

  function svg(kind, properties, ...children) {
    const node = document.createElementNS("http://www.w3.org/2000/svg", kind);
    Object.entries(properties || {}).forEach(([name, value]) => assign(node, name, value));
    put(node, children);
    return node;
  }

  // -- documents -------------------------------------------------------------------------------------------------

  function take(name, said) {
    const wait = waiting.get(name);
    waiting.delete(name);
    if (wait) wait(said);
  }

  function fromFolder(name) {
    return new Promise((done) => {
      waiting.set(name, done);
      const script = h("script", { src: `data/${encodeURIComponent(name)}.js` });
      script.addEventListener("error", () => take(name, { error: "These pages were written without this part." }));
      script.addEventListener("load", () => script.remove());
      document.head.append(script);
    });
  }

  function token() { return sessionStorage.getItem("lago-token") || ""; }

  async function ask(path, options) {
    const headers = { ...(options && options.headers) };
    if (token()) headers.Authorization = `Bearer ${token()}`;
    let answer;
    try {
      answer = await fetch(path, { ...options, headers });
    } catch {
      stopped(true);
      throw new Refused("The service does not answer. What you see stays; start the service again to go on.", 0);
    }
    stopped(false);
    let said = {};
    try { said = await answer.json(); } catch { said = { error: `found an answer that is no JSON (${answer.status})` }; }
    if (!answer.ok) {
      if (answer.status === 401) listeners.forEach((each) => each("token"));
      throw new Refused(answer.status === 401 ? "This needs the token that the service printed when it was started." : said.error || `refused (${answer.status})`, answer.status);
    }
    return said;
  }

  class Refused extends Error {
    constructor(sentence, status) { super(sentence); this.status = status; }
  }

  /* A document by its name; loaded once, until something changes. */
  function load(name) {
    if (!documents.has(name)) {
      const made = inFolder
        ? fromFolder(name).then((said) => { if (said.error) throw new Refused(said.error, 404); return said; })
        : ask(`data/${name.split("/").map(encodeURIComponent).join("/")}`);
      documents.set(name, made);
      made.catch(() => documents.delete(name));
    }
    return documents.get(name);
  }

  function forget(kept) {
    [...documents.keys()].filter((name) => !(kept || []).includes(name)).forEach((name) => documents.delete(name));
  }

  /* Ask the service to change something. */
  const post = (what, fields) => ask(`do/${what}`, { method: "POST", headers: { "Content-Type": "application/json" }, body: JSON.stringify(fields) });

  const scripts = new Map();
  function script(path) {
    if (!scripts.has(path)) {
      scripts.set(path, new Promise((done, failed) => {
        const node = h("script", { src: path });
        node.addEventListener("load", done);
        node.addEventListener("error", () => failed(new Refused(`${path} cannot be loaded`, 0)));
        document.head.append(node);
      }));
    }
    return scripts.get(path);
  }

  function curvesLibrary() {
    if (!document.querySelector("link[href='vendor/uplot.min.css']")) document.head.append(h("link", { rel: "stylesheet", href: "vendor/uplot.min.css" }));
    return script("vendor/uplot.min.js");
  }

  // -- addresses ---------------------------------------------------------------------------------------------------

  function place() {
    const [path, query] = location.hash.replace(/^#\/?/, "").split("?");
    const parts = path.split("/").filter(Boolean).map(decodeURIComponent);
    return { view: parts[0] || "library", rest: parts.slice(1), query: new URLSearchParams(query || "") };
  }

  function address(view, rest, query) {
    const path = [view, ...(rest || [])].map(encodeURIComponent).join("/");
    const text = new URLSearchParams(Object.entries(query || {}).filter(([, value]) => value !== "" && value !== null && value !== undefined)).toString();
    return `#/${path}${text ? `?${text}` : ""}`;
  }

  /* Change the address without going anywhere: what is shown is shown already. */
  function noted(hash) { if (location.hash !== hash) history.replaceState(null, "", hash); }

  // -- notices -----------------------------------------------------------------------------------------------------

  let lost = false;
  function stopped(now) {
    if (now === lost) return;
    lost = now;
    const bar = document.getElementById("notice");
    bar.replaceChildren(...(now ? [h("p", { class: "bar warn" }, "The service does not answer. What is shown stays; it is asked again every few seconds.")] : []));
  }

  function say(text, kind) {
    const bar = document.getElementById("notice");
    const line = h("p", { class: `bar ${kind || ""}` }, h("span", {}, text), h("button", { type: "button", class: "quiet", "aria-label": "Close this notice", onclick: () => line.remove() }, "×"));
    bar.replaceChildren(line);
    if (kind !== "warn") setTimeout(() => line.remove(), 8000);
  }

  const listen = (heard) => listeners.push(heard);
  const changed = (what) => listeners.forEach((each) => each(what));

  // -- texts -------------------------------------------------------------------------------------------------------

  const number = (value, digits) => (value === null || value === undefined || Number.isNaN(value) ? "–" : Number(value).toFixed(digits === undefined ? 2 : digits));
  const count = (value) => Number(value).toLocaleString("en");
  const percent = (value) => `${Math.round(100 * value)} %`;
  const when = (text) => (text ? text.replace("T", " ").replace(/\+00:00$/, " UTC").replace(/:\d\d(\.\d+)?( UTC)?$/, "$2") : "");
  const name = (id) => `s${String(id).padStart(4, "0")}`;
  const still = () => matchMedia("(prefers-reduced-motion: reduce)").matches;

  return { h, svg, take, load, forget, post, script, curvesLibrary, place, address, noted, say, listen, changed, number, count, percent, when, name, still, token, views, inFolder, Refused, ask };
})();
