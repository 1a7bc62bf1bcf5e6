/* Drawing: motions, strips, ranges. Colours come from the style sheet, so that they follow light and dark. */
"use strict";
(() => {
  const { h, svg } = lago;

  const css = (name) => getComputedStyle(document.documentElement).getPropertyValue(name).trim();
  const colour = (place) => css(`--c${((place % 8) + 8) % 8}`);

  /* A canvas as sharp as the screen; its 2d context in CSS pixels. */
  function sharp(canvas) {
    const box = canvas.getBoundingClientRect();
    const ratio = window.devicePixelRatio || 1;
    const width = Math.max(box.width, 1), height = Math.max(box.height, 1);
    if (canvas.width !== Math.round(width * ratio) || canvas.height !== Math.round(height * ratio)) {
      canvas.width = Math.round(width * ratio);
      canvas.height = Math.round(height * ratio);
    }
    const pen = canvas.getContext("2d");
    pen.setTransform(ratio, 0, 0, ratio, 0, 0);
    pen.clearRect(0, 0, width, height);
    return { pen, width, height };
  }

  /* The box around points (T, n, D) of things that are somewhere, in two coordinates. */
  function bounds(points, first, second, used) {
    let [left, right, low, high] = [Infinity, -Infinity, Infinity, -Infinity];
    for (const moment of points) used.forEach((place) => {
      const point = moment[place];
      left = Math.min(left, point[first]); right = Math.max(right, point[first]);
      low = Math.min(low, point[second]); high = Math.max(high, point[second]);
    });
    const size = Math.max(right - left, high - low, 0.08) * 1.18;
    return { x: (left + right) / 2, y: (low + high) / 2, size };
  }

  /* Anchors that are there: those of a task that lacks one lie at 0 all the time. */
  const present = (points, names) => names.map((_, place) => place).filter((place) => points.some((moment) => moment[place].some((value) => value !== 0)));

  function panels(points, names) {
    const used = present(points, names);
    const flat = !points.length || !used.length || points[0][0].length < 3;
    const shown = flat ? [[0, 1, "from above"]] : [[0, 1, "from above"], [0, 2, "from the front"]];
    return { used, views: shown.map(([first, second, said]) => ({ first, second, said, box: bounds(points, first, second, used) })) };
  }

  const marks = (pen, kind, x, y, size) => {
    pen.beginPath();
    if (kind === 0) pen.arc(x, y, size, 0, 7);
    else if (kind === 1) pen.rect(x - size, y - size, 2 * size, 2 * size);
    else if (kind === 2) { pen.moveTo(x, y - size * 1.3); pen.lineTo(x + size * 1.2, y + size); pen.lineTo(x - size * 1.2, y + size); pen.closePath(); }
    else { pen.moveTo(x - size, y - size); pen.lineTo(x + size, y + size); pen.moveTo(x + size, y - size); pen.lineTo(x - size, y + size); }
  };

  /* Ways of things up to a moment: each anchor with its trail; a target as a cross hair. `points` (T, n, D). */
  function scene(canvas, points, names, moment, options) {
    const { pen, width, height } = sharp(canvas);
    if (!points.length) return;
    const given = (options && options.panels) || panels(points, names);
    const views = options && options.small ? given.views.slice(0, 2) : given.views;
    const wide = width / height > 1.25;
    const room = views.length === 1 ? { w: width, h: height } : wide ? { w: width / 2, h: height } : { w: width, h: height / 2 };
    views.forEach((view, number) => {
      const left = wide ? number * room.w : 0, top = wide ? 0 : number * room.h;
      const side = Math.min(room.w, room.h - (options && options.small ? 0 : 16));
      const scale = (side - 16) / view.box.size;
      const at = (point) => [left + room.w / 2 + (point[view.first] - view.box.x) * scale, top + room.h / 2 - (point[view.second] - view.box.y) * scale];
      if (!(options && options.small)) {
        pen.fillStyle = css("--soft"); pen.font = "11px system-ui, sans-serif"; pen.textAlign = "left";
        pen.fillText(view.said, left + 8, top + 14);
        if (number) { pen.strokeStyle = css("--line"); pen.lineWidth = 1; pen.beginPath(); if (wide) { pen.moveTo(left, 8); pen.lineTo(left, height - 8); } else { pen.moveTo(8, top); pen.lineTo(width - 8, top); } pen.stroke(); }
      }
      given.used.forEach((place) => {
        pen.strokeStyle = colour(place); pen.fillStyle = colour(place); pen.lineJoin = "round";
        pen.lineWidth = options && options.small ? 2 : 2.4; pen.globalAlpha = 0.55;
        pen.beginPath();
        for (let i = 0; i <= moment && i < points.length; i += 1) { const [x, y] = at(points[i][place]); if (i) pen.lineTo(x, y); else pen.moveTo(x, y); }
        pen.stroke(); pen.globalAlpha = 1;
        const [x, y] = at(points[Math.min(moment, points.length - 1)][place]);
        marks(pen, place % 4, x, y, options && options.small ? 4 : 5.5);
        if (place % 4 === 3) { pen.lineWidth = 2.6; pen.stroke(); } else pen.fill();
      });
      const target = options && options.target;
      if (target && target.length >= 2) {
        const [x, y] = at(target);
        pen.strokeStyle = css("--ink"); pen.lineWidth = 1.4; pen.beginPath(); pen.arc(x, y, 7, 0, 7); pen.moveTo(x - 11, y); pen.lineTo(x + 11, y); pen.moveTo(x, y - 11); pen.lineTo(x, y + 11); pen.stroke();
      }
    });
  }

  function legend(names, used, target) {
    const shapes = ["●", "■", "▲", "✕"];
    return h("div", { class: "legend" }, used.map((place) => h("span", {}, h("span", { "aria-hidden": "true", style: { color: colour(place) } }, `${shapes[place % 4]} `), names[place])), target ? h("span", {}, "⌖ where the step heads") : null);
  }

  /* Plays a motion over and over, a little slower at its end; still where people want no motion. Returns how to stop it. */
  function loop(canvas, points, names) {
    const given = panels(points, names);
    if (lago.still() || points.length < 2) { scene(canvas, points, names, points.length - 1, { panels: given }); return () => {}; }
    let running = true, began = performance.now();
    const turn = (now) => {
      if (!running || !canvas.isConnected) return;
      const period = 1600 + 900;
      const share = Math.min(((now - began) % period) / 1600, 1);
      scene(canvas, points, names, Math.round(share * (points.length - 1)), { panels: given });
      requestAnimationFrame(turn);
    };
    requestAnimationFrame(turn);
    return () => { running = false; };
  }

  /* A strip of colours, one for each moment. */
  function strip(canvas, colours) {
    const { pen, width, height } = sharp(canvas);
    const each = width / Math.max(colours.length, 1);
    let start = 0;
    for (let i = 1; i <= colours.length; i += 1) {
      if (i < colours.length && colours[i] === colours[start]) continue;
      if (colours[start]) { pen.fillStyle = colours[start]; pen.fillRect(start * each, 0, (i - start) * each + 0.4, height); }
      start = i;
    }
  }

  /* A strip whose darkness is a share from 0 to 1. */
  function shade(canvas, shares, tint) {
    const { pen, width, height } = sharp(canvas);
    const each = width / Math.max(shares.length, 1);
    pen.fillStyle = tint;
    let start = 0;
    for (let i = 1; i <= shares.length; i += 1) {
      if (i < shares.length && shares[i] === shares[start]) continue;
      const share = shares[start];
      if (share > 0.004) { pen.globalAlpha = 0.25 + 0.75 * share; pen.fillRect(Math.floor(start * each), height * (1 - share), Math.ceil(i * each) - Math.floor(start * each), height * share); }
      start = i;
    }
    pen.globalAlpha = 1;
  }

  /* A range from low to high with its middle, within least and most. */
  function range(low, middle, high, least, most, said) {
    const place = (value) => 2 + (96 * (value - least)) / Math.max(most - least, 1e-9);
    return svg("svg", { class: "strip", viewBox: "0 0 100 14", preserveAspectRatio: "none", role: "img", "aria-label": said },
      svg("rect", { x: place(low), y: 3, width: Math.max(place(high) - place(low), 1), height: 8, rx: 2, fill: css("--c0") }),
      svg("rect", { x: place(middle) - 0.5, y: 1, width: 1, height: 12, fill: css("--ink") }));
  }

  /* A success with its interval, 0 to 1. */
  function whisker(value, low, high) {
    const at = (share) => 6 + 148 * share;
    return svg("svg", { class: "whisker", viewBox: "0 0 160 16", role: "img", "aria-label": `${lago.number(value)}, interval ${lago.number(low)} to ${lago.number(high)}` },
      svg("line", { x1: 6, x2: 154, y1: 8, y2: 8, stroke: css("--line"), "stroke-width": 6, "stroke-linecap": "round" }),
      low === null || low === undefined ? null : svg("line", { x1: at(low), x2: at(high), y1: 8, y2: 8, stroke: css("--c0"), "stroke-width": 4, "stroke-linecap": "round", opacity: 0.45 }),
      svg("circle", { cx: at(value), cy: 8, r: 5, fill: css("--c0") }));
  }

  const meter = (share, place) => { const bar = h("i", {}); bar.style.width = `${Math.round(100 * share)}%`; bar.style.background = colour(place || 0); return h("div", { class: "meter", "aria-hidden": "true" }, bar); };

  lago.draw = { css, colour, sharp, scene, panels, legend, loop, strip, shade, range, whisker, meter };
})();
