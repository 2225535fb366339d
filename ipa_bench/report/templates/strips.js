/* Per-frame values under the players: one strip per metric, A and B as lines, a playhead, click to go there. */
const STRIP_DEFAULT = 3;

function format(value) {
  if (value === null || value === undefined) return "–";
  const size = Math.abs(value);
  const text = size !== 0 && (size < 1e-4 || size >= 1e6) ? value.toExponential(2) : String(Number(value.toPrecision(4)));
  return text.replace("-", "−");
}

function arrowOf(info) { return info ? (info.better === "higher" ? "↑" : "↓") : ""; }

function element(name, properties = {}, ...children) {
  const made = Object.assign(document.createElement(name), properties);
  made.append(...children);
  return made;
}

class Strips {
  /* seek(time) when a strip is clicked; metrics: id -> {unit, better}, in report order. */
  constructor(box, choices, metrics, seek) {
    Object.assign(this, { box, choices, metrics, seek });
    this.chosen = null;
    this.rows = [];
    this.duration = 0;
    this.resized = new ResizeObserver(() => this.rows.forEach((row) => this.draw(row)));
    matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => this.rows.forEach((row) => this.draw(row)));
  }

  /* slots: [{key: "a" | "b", times, series}], duration in seconds. */
  set(slots, duration) {
    this.slots = slots.filter((slot) => slot.times.length);
    this.duration = duration;
    const there = new Set(this.slots.flatMap((slot) => Object.keys(slot.series)));
    const order = [...Object.keys(this.metrics).filter((id) => there.has(id)), ...there].filter((id, at, all) => all.indexOf(id) === at);
    this.chosen ??= order.length ? new Set(order.slice(0, STRIP_DEFAULT)) : null;
    this.offer(order);
    this.build(order.filter((id) => this.chosen?.has(id)));
  }

  offer(order) {
    this.choices.replaceChildren(...order.map((id) => {
      const input = element("input", { type: "checkbox", checked: this.chosen.has(id) });
      input.addEventListener("change", () => {
        if (input.checked) this.chosen.add(id);
        else this.chosen.delete(id);
        this.build(order.filter((each) => this.chosen.has(each)));
      });
      return element("label", {}, input, ` ${id}`);
    }));
    this.choices.parentElement.hidden = !order.length;
  }

  build(ids) {
    this.resized.disconnect();
    this.rows = ids.map((id) => this.row(id));
    this.box.replaceChildren(...this.rows.map((row) => row.root));
    for (const row of this.rows) {
      this.resized.observe(row.canvas);
      this.draw(row);
    }
    this.at(this.time ?? 0);
  }

  row(id) {
    const info = this.metrics[id];
    const readouts = this.slots.map((slot) => element("span", { className: `readout ${slot.key}` }));
    const unit = element("span", { className: "unit", textContent: `${arrowOf(info)} ${info?.unit ?? ""}` });
    const head = element("div", { className: "strip-head" }, element("b", { textContent: id }), unit, ...readouts);
    const canvas = element("canvas");
    const playhead = element("i", { className: "playhead" });
    const track = element("div", { className: "track" }, canvas, playhead);
    const [high, low] = [element("span"), element("span")];
    const go = (event) => {
      const box = track.getBoundingClientRect();
      this.seek(Math.max(0, Math.min(1, (event.clientX - box.left) / box.width)) * this.duration);
    };
    track.addEventListener("pointerdown", (event) => { track.setPointerCapture(event.pointerId); go(event); });
    track.addEventListener("pointermove", (event) => { if (event.buttons) go(event); });
    const body = element("div", { className: "strip-body" }, element("div", { className: "scale" }, high, low), track);
    return { id, root: element("div", { className: "strip" }, head, body), canvas, playhead, readouts, high, low };
  }

  range(id) {
    const values = this.slots.flatMap((slot) => slot.series[id] ?? []).filter((value) => value !== null);
    if (!values.length) return null;
    let low = values.reduce((a, b) => Math.min(a, b));
    let high = values.reduce((a, b) => Math.max(a, b));
    if (low >= 0 && low < 0.6 * high) low = 0; // a scale that begins at zero where zero is near
    if (low === high) [low, high] = [Math.min(0, low), Math.max(0, high) || 1];
    return { low, high };
  }

  draw({ id, canvas, high, low }) {
    const ratio = window.devicePixelRatio || 1;
    const [width, height] = [canvas.clientWidth * ratio, canvas.clientHeight * ratio].map(Math.round);
    if (!width) return;
    Object.assign(canvas, { width, height });
    const context = canvas.getContext("2d");
    const style = getComputedStyle(this.box);
    const range = this.range(id);
    const [top, bottom] = [5 * ratio, height - 8 * ratio];
    context.font = `${10.5 * ratio}px ${style.fontFamily}`;
    if (!range) {
      context.fillStyle = style.getPropertyValue("--faint");
      context.fillText("no frame of this clip has a value", 6 * ratio, height / 2 + 4 * ratio);
      return;
    }
    const x = (time) => (time / (this.duration || 1)) * width;
    const y = (value) => bottom - ((value - range.low) / (range.high - range.low)) * (bottom - top);
    context.strokeStyle = style.getPropertyValue("--line");
    context.lineWidth = ratio;
    for (const value of [range.low, range.high]) {
      context.beginPath();
      context.moveTo(0, y(value));
      context.lineTo(width, y(value));
      context.stroke();
    }
    this.slots.forEach((slot, place) => {
      const colour = style.getPropertyValue(`--${slot.key}`).trim();
      this.line(context, slot, slot.series[id] ?? [], { x, y, ratio, colour, floor: height - (place ? 2 : 5.5) * ratio });
    });
    high.textContent = format(Number(range.high.toPrecision(3)));
    low.textContent = format(Number(range.low.toPrecision(3)));
  }

  /* A line with gaps where there is no value, and a mark along the bottom for each gap. */
  line(context, slot, values, { x, y, ratio, colour, floor }) {
    const step = slot.times.length > 1 ? slot.times[1] - slot.times[0] : 0.04;
    context.strokeStyle = context.fillStyle = colour;
    context.lineWidth = 1.6 * ratio;
    context.lineJoin = "round";
    context.beginPath();
    values.forEach((value, index) => {
      if (value === null) return;
      const [here, before, after] = [x(slot.times[index] + step / 2), values[index - 1] ?? null, values[index + 1] ?? null];
      if (before === null) context.moveTo(here, y(value));
      else context.lineTo(here, y(value));
      if (before === null && after === null) context.rect(here - ratio, y(value) - ratio, 2 * ratio, 2 * ratio);
    });
    context.stroke();
    context.globalAlpha = 0.45;
    values.forEach((value, index) => {
      if (value === null) context.fillRect(x(slot.times[index]), floor, Math.max(ratio, x(step)), 2 * ratio);
    });
    context.globalAlpha = 1;
  }

  /* The playhead and the values under it. */
  at(time) {
    this.time = time;
    for (const row of this.rows) {
      row.playhead.style.left = `${Math.min(100, (100 * time) / (this.duration || 1))}%`;
      this.slots.forEach((slot, place) => {
        const index = slot.times.findLastIndex((each) => each <= time + 1e-3);
        row.readouts[place].textContent = `${slot.key.toUpperCase()} ${format(slot.series[row.id]?.[index] ?? null)}`;
      });
    }
  }
}
