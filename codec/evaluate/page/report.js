"use strict";
(() => {
  const data = JSON.parse(document.getElementById("data").textContent);
  const COLOURS = ["#0072B2", "#D55E00", "#009E73", "#CC79A7", "#B8860B", "#56B4E9", "#8B5CF6",
    "#6B7280", "#A0522D", "#DC2626"];
  const SVG = "http://www.w3.org/2000/svg";
  const byId = (id) => document.getElementById(id);
  const state = { metric: data.metrics[0].key, hidden: new Set() };
  const colour = (n) => COLOURS[n % COLOURS.length];

  // Names come from files: text is always set as text, never as markup.
  function make(tag, text, attributes, parent) {
    const node = document.createElement(tag);
    if (text !== null && text !== undefined) node.textContent = text;
    for (const [key, value] of Object.entries(attributes || {})) node.setAttribute(key, value);
    if (parent) parent.append(node);
    return node;
  }
  function draw(tag, attributes, parent, text) {
    const node = document.createElementNS(SVG, tag);
    for (const [key, value] of Object.entries(attributes)) node.setAttribute(key, value);
    if (text !== undefined) node.textContent = text;
    parent.append(node);
    return node;
  }
  const fixed = (value, digits) => (value === null || value === undefined ? "–" : value.toFixed(digits));
  const signed = (value, digits) => (value === null || value === undefined
    ? "–" : `${value >= 0 ? "+" : "−"}${Math.abs(value).toFixed(digits)}`);

  // -- charts --------------------------------------------------------------------------------
  function steps(low, high, count) {
    const rough = (high - low) / count;
    const power = 10 ** Math.floor(Math.log10(rough));
    const step = [1, 2, 5, 10].map((n) => n * power).find((n) => n >= rough);
    const ticks = [];
    for (let n = Math.ceil(low / step - 1e-9); n * step <= high + step * 1e-9; n += 1) ticks.push(n * step);
    return { ticks, digits: Math.max(0, -Math.floor(Math.log10(step) + 1e-9)) };
  }
  function powers(low, high) {
    const ticks = [];
    for (let n = Math.floor(low); n <= Math.ceil(high); n += 1) ticks.push(n);
    return { ticks, digits: 0 };
  }
  const seconds = (s) => (s >= 1 ? `${+s.toPrecision(3)} s` : `${+(1000 * s).toPrecision(3)} ms`);

  function chart(holder, series, axis) {
    holder.replaceChildren();
    let shown = series.filter((s) => s.points.length && !state.hidden.has(s.name));
    if (!shown.length) {
      make("p", axis.empty, { class: "note" }, holder);
      return;
    }
    const narrow = holder.clientWidth < 600;
    const width = narrow ? 480 : 960, height = narrow ? 400 : 470;
    const box = { left: 62, right: width - 14, top: 12, bottom: height - 46 };
    // Published curves often go on to rates that nobody measured here: the axis ends before.
    const measured = shown.filter((s) => !s.published);
    const rates = (measured.length ? measured : shown).flatMap((s) => s.points.map((p) => p[0]));
    const maxX = Math.max(...rates) * 1.04;
    shown = shown.map((s) => ({ ...s, points: s.points.filter((p) => p[0] <= maxX) }));
    const all = shown.flatMap((s) => s.points);
    const ys = all.map((p) => axis.y(p[1]));
    let lowY = Math.min(...ys), highY = Math.max(...ys);
    const pad = (highY - lowY) * 0.05 || 0.5;
    lowY -= pad; highY += pad;
    if (axis.log) { lowY = Math.floor(lowY); highY = Math.ceil(highY); }
    const x = (v) => box.left + (v / maxX) * (box.right - box.left);
    const y = (v) => box.bottom - ((axis.y(v) - lowY) / (highY - lowY)) * (box.bottom - box.top);
    const svg = draw("svg", { viewBox: `0 0 ${width} ${height}`, role: "img", "aria-label": axis.name }, holder);
    const across = steps(0, maxX, narrow ? 5 : 9);
    for (const tick of across.ticks) {
      draw("line", { class: "grid", x1: x(tick), x2: x(tick), y1: box.top, y2: box.bottom }, svg);
      draw("text", { x: x(tick), y: box.bottom + 18, "text-anchor": "middle" }, svg, tick.toFixed(across.digits));
    }
    const up = axis.log ? powers(lowY, highY) : steps(lowY, highY, 8);
    for (const tick of up.ticks) {
      const at = box.bottom - ((tick - lowY) / (highY - lowY)) * (box.bottom - box.top);
      draw("line", { class: "grid", x1: box.left, x2: box.right, y1: at, y2: at }, svg);
      draw("text", { x: box.left - 8, y: at + 4, "text-anchor": "end" }, svg,
        axis.log ? seconds(10 ** tick) : tick.toFixed(up.digits));
    }
    draw("text", { x: (box.left + box.right) / 2, y: height - 8, "text-anchor": "middle" }, svg, "bits per pixel");
    draw("text", { x: 14, y: (box.top + box.bottom) / 2, "text-anchor": "middle",
      transform: `rotate(-90 14 ${(box.top + box.bottom) / 2})` }, svg, axis.name);
    for (const s of shown) {
      draw("polyline", { points: s.points.map((p) => `${x(p[0])},${y(p[1])}`).join(" "), fill: "none",
        stroke: s.colour, "stroke-width": s.published ? 1.3 : 2.2,
        "stroke-dasharray": s.published ? "2 4" : "none" }, svg);
      for (const p of s.points) {
        const mark = draw("circle", { cx: x(p[0]), cy: y(p[1]), r: 4, stroke: s.colour, "stroke-width": 1.5,
          fill: s.published ? "var(--paper)" : s.colour }, svg);
        // A larger invisible disc to point at.
        const target = draw("circle", { cx: x(p[0]), cy: y(p[1]), r: 12, fill: "transparent", tabindex: 0,
          class: "target" }, svg);
        const text = `${s.label}\n${p[0].toFixed(4)} bpp\n${axis.say(p[1])}`;
        draw("title", {}, target, text);
        for (const event of ["pointerenter", "focus"]) {
          target.addEventListener(event, () => { mark.setAttribute("r", 6.5); tip(target, text); });
        }
        for (const event of ["pointerleave", "blur"]) {
          target.addEventListener(event, () => { mark.setAttribute("r", 4); byId("tip").hidden = true; });
        }
      }
    }
  }
  function tip(target, text) {
    const node = byId("tip");
    node.textContent = text;
    node.hidden = false;
    const at = target.getBoundingClientRect();
    const left = Math.min(at.right + 6, document.documentElement.clientWidth - node.offsetWidth - 4);
    node.style.left = `${Math.max(4, left) + window.scrollX}px`;
    node.style.top = `${at.top + window.scrollY - node.offsetHeight - 4}px`;
  }
  function charts() {
    const metric = data.metrics.find((m) => m.key === state.metric);
    const series = (points) => data.curves.map((c, n) => ({ name: c.name, label: c.label,
      published: c.published, colour: colour(n), points: points(c) }));
    chart(byId("rd"), series((c) => c.points[metric.key] || []), { name: metric.label, y: (v) => v,
      say: (v) => `${v.toFixed(3)} ${metric.unit}`.trim(), empty: "Every curve is hidden." });
    chart(byId("decode"), series((c) => c.decode), { name: "decode time", y: Math.log10, log: true,
      say: seconds, empty: "No decode times." });
  }
  function pickers() {
    for (const metric of data.metrics) {
      const button = make("button", metric.label, { type: "button" }, byId("metrics"));
      button.dataset.metric = metric.key;
      button.addEventListener("click", () => { state.metric = metric.key; refresh(); });
    }
    data.curves.forEach((curve, n) => {
      const button = make("button", null, { type: "button" }, byId("legend"));
      button.dataset.curve = curve.name;
      if (curve.source) button.title = curve.source;
      make("i", null, { style: `background:${colour(n)}` }, button);
      make("span", curve.label, {}, button);
      button.addEventListener("click", () => {
        if (!state.hidden.delete(curve.name)) state.hidden.add(curve.name);
        refresh();
      });
    });
  }

  // -- tables --------------------------------------------------------------------------------
  function shade(cell, value) {
    if (value === null || value === undefined) cell.className = "none";
    else if (Math.abs(value) >= 0.05) cell.className = value < 0 ? "good" : "bad";
  }
  function matrix() {
    const table = byId("matrix");
    table.replaceChildren();
    const head = make("tr", null, {}, make("thead", null, {}, table));
    make("th", "against", { scope: "col" }, head);
    for (const curve of data.curves) make("th", curve.label, { scope: "col" }, head);
    const body = make("tbody", null, {}, table);
    data.bd[state.metric].forEach((row, n) => {
      const line = make("tr", null, {}, body);
      make("th", data.curves[n].label, { scope: "row" }, line);
      for (const cell of row) {
        const node = make("td", cell.same ? "" : cell.rate === null ? "–" : `${signed(cell.rate, 1)} %`, {}, line);
        if (!cell.same) shade(node, cell.rate);
        if (cell.refused) node.title = cell.refused;
        else if (cell.gain !== null && !cell.same) node.title = `${signed(cell.gain, 2)} at equal rate`;
      }
    });
  }
  function caveat() {
    const published = data.curves.some((c) => c.published);
    byId("caveat").hidden = !published || data.curves.every((c) => c.published);
  }
  function intervals() {
    byId("against").textContent = `Against ${data.anchor}, item by item`;
    const table = byId("intervals");
    table.replaceChildren();
    const rows = data.items[state.metric];
    const names = [...new Set(rows.flatMap((row) => Object.keys(row.perItem)))];
    const head = make("tr", null, {}, make("thead", null, {}, table));
    for (const text of ["codec", "BD-rate", "95% interval", "gain", "mean of items", ...names]) {
      make("th", text, { scope: "col" }, head);
    }
    const body = make("tbody", null, {}, table);
    for (const row of rows) {
      const line = make("tr", null, {}, body);
      make("th", row.name, { scope: "row" }, line);
      const rate = make("td", row.rate === null ? "–" : `${signed(row.rate, 1)} %`, {}, line);
      shade(rate, row.rate);
      if (row.refused) rate.title = row.refused;
      make("td", row.low === null ? "–" : `${signed(row.low, 1)} … ${signed(row.high, 1)}`, {}, line);
      make("td", signed(row.gain, 2), {}, line);
      make("td", row.mean === null ? "–" : `${signed(row.mean, 1)} %`, {}, line);
      for (const name of names) shade(make("td", signed(row.perItem[name], 1), {}, line), row.perItem[name]);
    }
  }
  function items() {
    const table = byId("rows");
    const head = make("tr", null, {}, make("thead", null, {}, table));
    const body = make("tbody", null, {}, table);
    const order = { column: -1, down: false };
    const isText = data.columns.map((_, n) => data.rows.some((row) => typeof row[n] === "string"));
    const lines = data.rows.map((row) => {
      const line = document.createElement("tr");
      row.forEach((value, n) => {
        const digits = data.columns[n].digits;
        const text = typeof value !== "number" ? value ?? "–"
          : data.columns[n].key === "quality" ? String(value) : value.toFixed(digits);
        make("td", text, isText[n] ? { class: "text" } : {}, line);
      });
      return { row, line, text: row.join(" ").toLowerCase() };
    });
    const headings = data.columns.map((column, n) => {
      const cell = make("th", null, { scope: "col", "aria-sort": "none", class: isText[n] ? "text" : "" }, head);
      make("button", column.label, { type: "button" }, cell).addEventListener("click", () => {
        order.down = order.column === n && !order.down;
        order.column = n;
        show();
      });
      return cell;
    });
    function show() {
      headings.forEach((cell, n) => cell.setAttribute("aria-sort",
        n !== order.column ? "none" : order.down ? "descending" : "ascending"));
      const sorted = lines.slice();
      if (order.column >= 0) {
        const sign = order.down ? -1 : 1;
        sorted.sort((a, b) => {
          const [u, v] = [a.row[order.column], b.row[order.column]];
          if (u === null || v === null) return (u === null) - (v === null);  // unknown ones last
          return sign * (typeof u === "string" ? u.localeCompare(v) : u - v);
        });
      }
      const wanted = byId("filter").value.trim().toLowerCase();
      body.replaceChildren(...sorted.filter((l) => l.text.includes(wanted)).map((l) => l.line));
    }
    byId("filter").addEventListener("input", show);
    show();
  }

  // -- crops ---------------------------------------------------------------------------------
  function caption(view) {
    if (view.codec === "original") return "original";
    const quality = view.psnr === null ? "without loss" : `${view.psnr.toFixed(2)} dB`;
    return `${view.codec}: ${view.bytes.toLocaleString("en")} bytes, ${quality} (${view.note})`;
  }
  function crops() {
    const holder = byId("compare");
    if (!data.crops.length) {
      make("p", "No crops: the sources or the coded files were not at hand when this report was made.",
        { class: "note" }, holder);
      return;
    }
    const pick = make("div", null, { class: "pick" }, holder);
    const select = (name) => make("select", null, {}, make("label", name, {}, pick));
    const item = select("item"), left = select("left"), right = select("right");
    const about = make("p", null, { class: "note" }, holder);
    const split = make("div", null, { class: "split" }, holder);
    const under = make("img", null, {}, split), over = make("img", null, {}, split);
    const edge = make("div", null, { class: "edge" }, split);
    const slider = make("input", null, { type: "range", min: 0, max: 100, step: 0.5, value: 50,
      class: "slide", "aria-label": "position of the edge between left and right" }, holder);
    const captions = make("div", null, { class: "captions" }, holder);
    const first = make("span", null, {}, captions), second = make("span", null, {}, captions);
    const thumbs = make("div", null, { class: "thumbs" }, holder);
    data.crops.forEach((crop, n) => make("option", crop.item, { value: n }, item));
    const current = () => data.crops[Number(item.value)];
    function slide() {
      const at = Number(slider.value);
      over.style.clipPath = `inset(0 ${100 - at}% 0 0)`;
      edge.style.left = `calc(${at}% - 1px)`;
    }
    function show() {
      const { views } = current();
      const [a, b] = [views[Number(left.value)], views[Number(right.value)]];
      over.src = a.src; under.src = b.src;
      over.alt = caption(a); under.alt = caption(b);
      first.textContent = caption(a); second.textContent = caption(b);
      split.style.aspectRatio = `${b.width} / ${b.height}`;
      slide();
    }
    function fill() {
      const crop = current();
      const lost = Object.entries(crop.missing).map(([name, why]) => `${name}: ${why}`);
      about.textContent = `${crop.title}. Budget: ${crop.budget.toLocaleString("en")} bytes for the whole file.`
        + (lost.length ? ` Not shown: ${lost.join("; ")}` : "");
      for (const list of [left, right]) {
        const kept = list.value === "" ? null : Number(list.value);
        list.replaceChildren();
        crop.views.forEach((view, n) => make("option", view.codec, { value: n }, list));
        list.value = kept !== null && kept < crop.views.length ? kept : list === left ? 0 : Math.min(1, crop.views.length - 1);
      }
      thumbs.replaceChildren();
      for (const view of crop.views) {
        const figure = make("figure", null, {}, thumbs);
        make("img", null, { src: view.src, alt: caption(view), loading: "lazy" }, figure);
        make("b", view.codec, {}, make("figcaption", null, {}, figure));
        if (view.codec !== "original") {
          figure.lastChild.append(` ${view.bytes.toLocaleString("en")} bytes, ${fixed(view.psnr, 2)} dB`);
        }
      }
      show();
    }
    item.addEventListener("change", fill);
    left.addEventListener("change", show);
    right.addEventListener("change", show);
    slider.addEventListener("input", slide);
    let dragging = false;
    const drag = (event) => {
      const frame = split.getBoundingClientRect();
      slider.value = (100 * (event.clientX - frame.left)) / frame.width;
      slide();
    };
    split.addEventListener("pointerdown", (event) => { dragging = true; drag(event); });
    split.addEventListener("dragstart", (event) => event.preventDefault());
    window.addEventListener("pointermove", (event) => { if (dragging) drag(event); });
    window.addEventListener("pointerup", () => { dragging = false; });
    fill();
  }

  // -- provenance ----------------------------------------------------------------------------
  function provenance() {
    const holder = byId("provenance");
    const measured = data.curves.filter((c) => !c.published).length;
    const where = data.provenance.length === 1 ? " on one machine in one run" : "";
    byId("lead").textContent = `${measured} curves measured${where}, `
      + `${data.curves.length - measured} published; ${data.rows.length} measurements of real files.`;
    for (const run of data.provenance) {
      make("pre", run.command, {}, holder);
      const list = make("dl", null, {}, holder);
      const fact = (name, text) => { if (text) { make("dt", name, {}, list); make("dd", text, {}, list); } };
      fact("averaging", run.averaging);
      for (const [key, value] of Object.entries(run.machine)) fact(key, String(value));
      fact("items", run.items.join(", "));
      fact("failures", run.errors.join("; "));
      for (const codec of run.codecs) {
        const details = make("details", null, {}, holder);
        make("summary", `${codec.name}: ${codec.version}`, {}, details);
        make("pre", codec.commands.join("\n"), {}, details);
      }
    }
    for (const curve of data.curves.filter((c) => c.published)) {
      make("p", `${curve.label}: ${curve.source}`, { class: "note" }, holder);
    }
  }

  function refresh() {
    for (const button of byId("metrics").children) {
      button.setAttribute("aria-pressed", String(button.dataset.metric === state.metric));
    }
    for (const button of byId("legend").children) {
      button.setAttribute("aria-pressed", String(!state.hidden.has(button.dataset.curve)));
    }
    charts();
    matrix();
    intervals();
  }
  pickers();
  refresh();
  caveat();
  items();
  crops();
  provenance();
  let drawn = window.innerWidth;
  window.addEventListener("resize", () => {
    if (window.innerWidth !== drawn) { drawn = window.innerWidth; charts(); }
  });
})();
