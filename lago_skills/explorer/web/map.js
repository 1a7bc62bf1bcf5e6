/* The map's frame: it draws what it is sent and says what is pointed at. It can reach nothing else. */
"use strict";
(() => {
  const said = document.getElementById("said");
  const canvas = document.getElementById("map");
  const parent = window.parent;
  let plot = null;
  let frames = 0;

  function draw(points) {
    document.body.className = points.dark ? "dark" : "";
    const background = points.background;
    if (plot === null) {
      plot = scatterplot.createScatterplot({
        canvas,
        width: "auto",
        height: "auto",
        pointSize: points.size,
        opacity: 0.85,
        lassoColor: "#0b6fa4",
        actionKeyMap: { merge: "shift", remove: "alt" },
      });
      plot.subscribe("select", ({ points: chosen }) => parent.postMessage({ map: "select", points: chosen }, "*"));
      plot.subscribe("deselect", () => parent.postMessage({ map: "select", points: [] }, "*"));
      plot.subscribe("pointover", (place) => parent.postMessage({ map: "over", point: place }, "*"));
      plot.subscribe("pointout", () => parent.postMessage({ map: "over", point: -1 }, "*"));
      plot.subscribe("view", () => { frames += 1; });
    }
    plot.set({ backgroundColor: background, pointColor: points.colours, colorBy: "category", pointSize: points.size });
    return plot.draw({ x: points.x, y: points.y, category: points.group }, { preventFilterReset: true });
  }

  /* Frames a second while the map is dragged for so many seconds, as a mouse drags it; and how many views were drawn. */
  async function measure(seconds) {
    const box = canvas.getBoundingClientRect();
    const at = (kind, target, x, y) => target.dispatchEvent(new MouseEvent(kind, { clientX: x, clientY: y, bubbles: true, buttons: 1, button: 0 }));
    const began = performance.now(), before = frames;
    let count = 0;
    at("mousedown", canvas, box.width / 2, box.height / 2);
    while (performance.now() - began < seconds * 1000) {
      const angle = (performance.now() - began) / 300;
      at("mousemove", canvas, box.width * (0.5 + 0.2 * Math.cos(angle)), box.height * (0.5 + 0.2 * Math.sin(angle)));
      await new Promise((done) => requestAnimationFrame(done));
      count += 1;
    }
    at("mouseup", canvas, box.width / 2, box.height / 2);
    return { rate: count / ((performance.now() - began) / 1000), drawn: frames - before };
  }

  window.addEventListener("message", async (event) => {
    if (event.source !== parent) return;
    const asked = event.data;
    try {
      if (asked.map === "draw") { await draw(asked); parent.postMessage({ map: "drawn" }, "*"); }
      if (asked.map === "select" && plot) plot.select(asked.points, { preventEvent: true });
      if (asked.map === "zoom" && plot) await plot.zoomToPoints(asked.points, { padding: 0.4, transition: !asked.still });
      if (asked.map === "reset" && plot) plot.reset();
      if (asked.map === "measure") parent.postMessage({ map: "measured", ...(await measure(asked.seconds)) }, "*");
    } catch (error) {
      said.textContent = "This browser has no WebGL, which the map is drawn with. The list has the same skills.";
      parent.postMessage({ map: "failed", why: String(error) }, "*");
    }
  });
  /* Without a graphics card every pixel is the processor's: the frame is then drawn at half its size, and shown at its whole. */
  function slow() {
    const probe = document.createElement("canvas").getContext("webgl");
    const facts = probe && probe.getExtension("WEBGL_debug_renderer_info");
    const name = facts ? String(probe.getParameter(facts.UNMASKED_RENDERER_WEBGL)) : "";
    if (probe && probe.getExtension("WEBGL_lose_context")) probe.getExtension("WEBGL_lose_context").loseContext();
    return /swiftshader|llvmpipe|software|basic render/i.test(name);
  }
  parent.postMessage({ map: "ready", slow: slow() }, "*");
})();
