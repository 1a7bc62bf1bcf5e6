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

  /* Frames a second while the view is panned for so many seconds: what a person would feel. */
  async function measure(seconds) {
    const began = performance.now();
    let count = 0;
    while (performance.now() - began < seconds * 1000) {
      const angle = (performance.now() - began) / 400;
      const x = 0.4 * Math.cos(angle), y = 0.4 * Math.sin(angle);
      plot.set({ cameraTarget: [x, y], cameraDistance: 0.8 });
      await new Promise((done) => requestAnimationFrame(done));
      count += 1;
    }
    return count / ((performance.now() - began) / 1000);
  }

  window.addEventListener("message", async (event) => {
    if (event.source !== parent) return;
    const asked = event.data;
    try {
      if (asked.map === "draw") { await draw(asked); parent.postMessage({ map: "drawn" }, "*"); }
      if (asked.map === "select" && plot) plot.select(asked.points, { preventEvent: true });
      if (asked.map === "zoom" && plot) await plot.zoomToPoints(asked.points, { padding: 0.4, transition: !asked.still });
      if (asked.map === "reset" && plot) plot.reset();
      if (asked.map === "measure") parent.postMessage({ map: "measured", rate: await measure(asked.seconds) }, "*");
    } catch (error) {
      said.textContent = "This browser has no WebGL, which the map is drawn with. The list has the same skills.";
      parent.postMessage({ map: "failed", why: String(error) }, "*");
    }
  });
  parent.postMessage({ map: "ready" }, "*");
})();
