/* Who is who over time: a row for each person, the reference's face first, and a band for each of A and B. */
const FACE_STATE = { "-1": "too small", "-2": "missing", "-3": "not due" };

class People {
  /* seek(time) when a band is clicked. */
  constructor(box, seek) {
    Object.assign(this, { box, seek, rows: [], duration: 0 });
    this.resized = new ResizeObserver(() => this.rows.forEach((row) => this.draw(row)));
    matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => this.rows.forEach((row) => this.draw(row)));
  }

  /* slots: [{key: "a" | "b", times, people}], those with people; duration in seconds. */
  set(slots, duration) {
    this.duration = duration;
    this.resized.disconnect();
    this.rows = [];
    this.box.hidden = !slots.length;
    if (!slots.length) return;
    const { names, network } = slots[0].people;
    const head = element("div", { className: "strip-head" }, element("b", { textContent: "Who is who" }),
      element("span", { className: "unit", textContent: `by ${network}; line: likeness to the own reference, from 0 to 1, dashed where two faces are one person's` }));
    const key = element("p", { className: "who-key" }, ...names.map((name, person) => this.swatch(personColour(person), name)),
      this.swatch(personColour(-1), "too small to say"), element("span", { className: "missing", textContent: "missing" }));
    this.box.replaceChildren(head, key, ...names.map((name, person) => this.person(name, person, slots)));
    for (const row of this.rows) {
      this.resized.observe(row.canvas);
      this.draw(row);
    }
    this.at(this.time ?? 0);
  }

  swatch(colour, text) {
    const mark = element("i");
    mark.style.background = colour;
    return element("span", {}, mark, text);
  }

  person(name, person, slots) {
    const source = slots.map(({ people }) => people.pictures[person]).find(Boolean);
    const face = source ? element("img", { src: source, alt: `reference of ${name}`, width: 72, height: 72 }) : element("span", { className: "no-face", textContent: "no picture" });
    const about = element("b", { className: "who-name", textContent: name });
    const bands = slots.map((slot) => this.band(slot, person));
    return element("div", { className: "who" }, face, element("div", { className: "who-bands" }, about, ...bands));
  }

  band(slot, person) {
    const canvas = element("canvas");
    const playhead = element("i", { className: "playhead" });
    const track = element("div", { className: "track" }, canvas, playhead);
    const readout = element("span", { className: `readout ${slot.key}` });
    const own = slot.people.who[person].filter((whose) => whose === person).length;
    const due = slot.people.who[person].filter((whose) => whose !== -3).length;
    const share = element("span", { className: "unit", textContent: due ? `own face in ${Math.round((100 * own) / due)} % of ${due} frames` : "never due" });
    const go = (event) => {
      const box = track.getBoundingClientRect();
      this.seek(Math.max(0, Math.min(1, (event.clientX - box.left) / box.width)) * this.duration);
    };
    track.addEventListener("pointerdown", (event) => { track.setPointerCapture(event.pointerId); go(event); });
    track.addEventListener("pointermove", (event) => { if (event.buttons) go(event); });
    this.rows.push({ slot, person, canvas, playhead, readout });
    const line = element("div", { className: "who-line" }, element("span", { className: `slot ${slot.key}`, textContent: slot.key.toUpperCase() }), share, readout);
    return element("div", { className: "who-band" }, line, track);
  }

  draw({ slot, person, canvas }) {
    const ratio = window.devicePixelRatio || 1;
    const [width, height] = [canvas.clientWidth * ratio, canvas.clientHeight * ratio].map(Math.round);
    if (!width) return;
    Object.assign(canvas, { width, height });
    const context = canvas.getContext("2d");
    const style = getComputedStyle(this.box);
    const { times, people } = slot;
    const step = times.length > 1 ? times[1] - times[0] : 0.04;
    const x = (time) => (time / (this.duration || 1)) * width;
    people.who[person].forEach((whose, index) => {
      const left = Math.round(x(times[index]));
      const wide = Math.max(1, Math.round(x(times[index] + step)) - left);
      if (whose === -3) return;
      if (whose === -2) {
        context.fillStyle = style.getPropertyValue("--bad");
        context.fillRect(left, height - 4 * ratio, wide, 4 * ratio);
        return;
      }
      context.globalAlpha = 0.55;
      context.fillStyle = personColour(whose);
      context.fillRect(left, 0, wide, height);
      context.globalAlpha = 1;
    });
    const y = (value) => height - Math.max(0, Math.min(1, value)) * height;
    context.strokeStyle = style.getPropertyValue("--ink");
    context.lineWidth = ratio;
    context.setLineDash([3 * ratio, 3 * ratio]);
    context.globalAlpha = 0.5;
    context.beginPath();
    context.moveTo(0, y(people.same));
    context.lineTo(width, y(people.same));
    context.stroke();
    context.setLineDash([]);
    context.globalAlpha = 1;
    context.lineWidth = 1.5 * ratio;
    context.beginPath();
    people.likeness[person].forEach((value, index, all) => {
      if (value === null) return;
      const point = [x(times[index] + step / 2), y(value)];
      if ((all[index - 1] ?? null) === null) context.moveTo(...point);
      else context.lineTo(...point);
    });
    context.stroke();
  }

  /* The playhead, and what is under it. */
  at(time) {
    this.time = time;
    for (const { slot, person, playhead, readout } of this.rows) {
      playhead.style.left = `${Math.min(100, (100 * time) / (this.duration || 1))}%`;
      const index = slot.times.findLastIndex((each) => each <= time + 1e-3);
      const whose = slot.people.who[person][index] ?? -3;
      const likeness = format(slot.people.likeness[person][index] ?? null);
      readout.textContent = whose === person ? likeness : whose >= 0 ? `${slot.people.names[whose]}'s face (${likeness})` : FACE_STATE[whose];
    }
  }
}
