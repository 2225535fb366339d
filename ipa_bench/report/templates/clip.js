/* The drill-down: which clip and which models, their data, and what the controls do. */
(() => {
  const get = (id) => document.getElementById(id);
  const viewer = get("viewer");
  if (!viewer) return;
  const run = JSON.parse(get("run-data").textContent);
  const primary = run.metrics[run.primary];
  const state = { c: 0, s: 0, a: 0, b: run.models.length > 1 ? 1 : null, left: "driving" };
  const NONE = "none";

  /* ---- data: one script per video, inserted when it is wanted ---- */
  const arrived = new Map();
  const asked = new Map();
  window.ipaBenchClip = (name, data) => arrived.set(name, data);
  function fetchClip(name) {
    if (!name) return Promise.resolve(null);
    if (!asked.has(name)) {
      asked.set(name, new Promise((done) => {
        const script = element("script", { src: `report/data/${name}.js`, async: true });
        script.onload = script.onerror = () => done(arrived.get(name) ?? null);
        document.head.append(script);
      }));
    }
    return asked.get(name);
  }

  const unitAt = (c, s, m) => (m === null ? null : run.units[(c * run.seeds.length + s) * run.models.length + m]);

  /* ---- panels ---- */
  const panels = {};
  for (const root of viewer.querySelectorAll(".panel")) {
    const [video, canvas, stage, closeup] = ["video", "canvas", ".stage", ".closeup"].map((name) => root.querySelector(name));
    const panel = { root, video, stage, closeup, overlay: new Overlay(canvas, video), empty: root.querySelector(".empty") };
    panels[root.dataset.panel] = panel;
    video.addEventListener("error", () => { if (video.hasAttribute("src")) say(panel, "This video could not be played."); });
  }
  const order = ["driving", "a", "b"];
  const strips = new Strips(get("strips"), viewer.querySelector("#strip-choice .choices"), run.metrics, (time) => {
    player.pause();
    player.seek(time);
  });
  const closeups = order.map((key) => panels[key].closeup.querySelector("video"));
  const people = new People(get("people"), (time) => {
    player.pause();
    player.seek(time);
  });
  const player = new Player([...order.map((key) => panels[key].video), ...closeups], {
    onTick: () => { showClock(); follow(); },
    onState: showState,
    onFrame: (video) => order.map((key) => panels[key]).find((panel) => panel.video === video)?.overlay.draw(),
  });

  function say(panel, text) {
    panel.empty.textContent = text;
    panel.empty.hidden = !text;
    panel.stage.classList.toggle("is-empty", Boolean(text));
  }

  function showPanel(key, title, clip, value, shape = clip) {
    const panel = panels[key];
    panel.root.hidden = clip === null;
    panel.root.querySelector(".title").textContent = title;
    panel.root.querySelector(".title").title = title;
    panel.root.querySelector(".value").textContent = value ?? "";
    panel.root.querySelector(".value").title = run.primary;
    panel.stage.style.setProperty("--ratio", shape?.src ? shape.w / shape.h : 16 / 9);
    say(panel, clip && !clip.src ? clip.note.startsWith("no video") ? clip.note : `no video: ${clip.note}` : "");
    return clip?.src ? clip : null;
  }

  /* ---- what is shown ---- */
  let shownData = {};
  async function show(time = null) {
    const { c, s, a, b } = state;
    const entry = run.cases[c];
    const units = { a: unitAt(c, s, a), b: unitAt(c, s, b) };
    const left = state.left === "truth" && entry.truth ? entry.truth : entry.driving;
    const value = (unit) => (unit && unit.primary !== null ? `${format(unit.primary)} ${primary?.unit ?? ""}` : "not scored");
    const clips = [
      showPanel("driving", left === entry.driving ? "Driving" : "Ground truth", left),
      showPanel("a", run.models[a], units.a.video, value(units.a), units.a.video.src ? units.a.video : left),
      showPanel("b", b === null ? "" : run.models[b], units.b?.video ?? null, value(units.b), units.b?.video.src ? units.b.video : left),
    ];
    get("panels").dataset.count = b === null ? 2 : 3;
    get("pick-left").hidden = !entry.truth;
    panels.driving.root.querySelector(".title").hidden = Boolean(entry.truth);
    syncPickers();
    if (time !== null) player.time = time;
    const wanted = get("show-closeups").checked;
    const hands = clips.map((clip) => (wanted && clip?.hands ? { src: clip.hands.src, fps: clip.fps, slots: clip.hands.slots } : null));
    order.forEach((key, index) => { panels[key].hands = hands[index]; });
    player.load([...clips, ...hands]);
    frameCloseups();
    if (time !== null) player.seek(time);
    remember(time);
    const [dataA, dataB] = await Promise.all([fetchClip(units.a.data), fetchClip(units.b?.data)]);
    if (state.c !== c || state.s !== s || state.a !== a || state.b !== b) return; // the reader has moved on
    shownData = { a: dataA, b: dataB };
    showOverlays();
    showZoom();
    showStrips();
    showScores();
    showNotes(units);
    viewer.dataset.ready = `${c}.${s}.${a}.${b}`;
  }

  /* Both hands side by side, or the one that the camera looks at, as large as the panel is wide. */
  function frameCloseups() {
    for (const key of order) {
      const { closeup, hands } = panels[key];
      const one = hands?.slots.length === 2 && ["0", "1"].includes(get("zoom").value);
      closeup.hidden = !hands;
      closeup.style.setProperty("--shown", one ? 1 : hands?.slots.length ?? 1);
      closeup.firstElementChild.style.objectPosition = one && hands.slots[1] === Number(get("zoom").value) ? "right" : "left";
    }
    const any = run.units.some((unit) => unit.video.hands) || run.cases.some((entry) => entry.driving.hands);
    get("show-closeups").disabled = !any;
  }

  function showOverlays() {
    const [hands, driving] = [get("show-hands").checked, get("show-driving").checked];
    for (const key of ["a", "b"]) {
      const frames = shownData[key]?.frames;
      const layers = [];
      if (hands && frames) layers.push({ hands: frames.generated, driving: false });
      if (driving && frames?.driving) layers.push({ hands: frames.driving, driving: true });
      if (get("show-faces").checked && frames?.people) layers.push({ people: frames.people });
      panels[key].overlay.set(frames?.times ?? [], layers);
    }
    const frames = [shownData.a?.frames, shownData.b?.frames].find((each) => each?.driving);
    const seen = hands && frames && state.left === "driving" ? [{ hands: frames.driving, driving: false }] : [];
    panels.driving.overlay.set(frames?.times ?? [], seen);
    const any = Boolean(shownData.a?.frames || shownData.b?.frames);
    get("show-hands").disabled = !any;
    get("show-driving").disabled = !frames;
    get("show-faces").parentElement.hidden = !shownData.a?.frames?.people && !shownData.b?.frames?.people;
  }

  /* ---- the camera ---- */
  const zoom = new Zoom();
  function showZoom() {
    const frames = [shownData.a?.frames, shownData.b?.frames].find(Boolean);
    if (get("zoom").value && frames) zoom.set(frames.times, frames.driving ?? frames.generated, get("zoom").value);
    else zoom.clear();
    get("zoom").disabled = !frames;
    frameCloseups();
    for (const key of order) {
      panels[key].overlay.scale = zoom.scale;
      panels[key].overlay.draw();
    }
    follow();
  }

  function follow() {
    const transform = zoom.at(player.time);
    for (const key of order) panels[key].stage.querySelector(".frame").style.transform = transform;
  }

  function showStrips() {
    const slots = ["a", "b"].filter((key) => shownData[key]?.frames).map((key) => ({ key, ...shownData[key].frames }));
    const last = Math.max(0, ...slots.map(({ times }) => times.at(-1) ?? 0));
    strips.set(slots, player.duration || last);
    people.set(slots.filter((slot) => slot.people), player.duration || last);
  }

  function showNotes(units) {
    const lines = [];
    for (const key of ["a", "b"]) {
      if (!units[key]) continue;
      const data = shownData[key];
      if (units[key].data && !data) lines.push(`${key.toUpperCase()}: its data file is missing from report/data.`);
      if (data && !data.frames) lines.push(`${key.toUpperCase()}: no per-frame data were kept, so there are no hands and no strips.`);
      for (const note of data?.notes ?? []) lines.push(`${key.toUpperCase()}: ${note}`);
    }
    get("clip-notes").textContent = lines.join(" ");
    get("clip-notes").hidden = !lines.length;
  }

  function showScores() {
    const scores = { a: new Map(), b: new Map() };
    for (const key of ["a", "b"]) for (const [id, ...rest] of shownData[key]?.scores ?? []) scores[key].set(id, rest);
    const ids = [...new Set([...scores.a.keys(), ...scores.b.keys()])];
    const both = state.b !== null;
    viewer.classList.toggle("single", !both);
    const number = (text, extra = "") => element("td", { className: `num ${extra}`, textContent: text });
    get("clip-scores").replaceChildren(...ids.map((id) => {
      const [[a = null, whyA = null] = [], [b = null, whyB = null] = []] = [scores.a.get(id), scores.b.get(id)];
      const info = run.metrics[id];
      const gap = a !== null && b !== null ? a - b : null;
      const sign = gap === null || !info || gap === 0 ? 0 : Math.sign(gap) * (info.better === "higher" ? 1 : -1);
      const head = element("th", { scope: "row" }, element("span", { textContent: `${id} ${arrowOf(info)}` }), element("span", { className: "about", textContent: info?.unit ?? "" }));
      const reasons = [...new Set([whyA && `A: ${whyA}`, both && whyB && `B: ${whyB}`].filter(Boolean))].join("; ");
      const cells = [number(format(a), sign > 0 ? "wins" : ""), number(format(b), `for-b ${sign < 0 ? "wins" : ""}`), number(gap > 0 ? `+${format(gap)}` : format(gap), "for-b")];
      return element("tr", {}, head, ...cells, element("td", { className: "why", textContent: reasons }));
    }));
    if (!ids.length) get("clip-scores").append(element("tr", {}, element("td", { colSpan: 5, className: "empty", textContent: "This clip has no scores." })));
  }

  /* ---- controls ---- */
  function showClock() {
    const { frame, frames, duration } = player;
    get("scrub").value = frame;
    get("clock").textContent = duration ? `${(frame / player.fps).toFixed(2)} s · frame ${frame} / ${frames - 1}` : "–";
    strips.at(Math.min(player.time, duration || player.time));
    people.at(Math.min(player.time, duration || player.time));
  }

  function showState() {
    const play = get("play");
    play.textContent = player.playing ? "❚❚" : "▶";
    play.setAttribute("aria-label", player.playing ? "Pause" : "Play");
    get("scrub").max = player.frames - 1;
    for (const id of ["play", "back", "forward", "scrub"]) get(id).disabled = !player.duration;
    if (strips.slots && player.duration && strips.duration !== player.duration) showStrips();
    showClock();
  }

  function fill(select, options) {
    select.replaceChildren(...options.map(([value, text]) => element("option", { value, textContent: text })));
  }

  const badness = (unit) => (unit?.primary ?? null) === null ? null : unit.primary * (primary?.better === "higher" ? -1 : 1);
  function casesInOrder() {
    const all = run.cases.map((_, c) => c);
    const by = get("pick-order").value;
    if (by === "listed") return all;
    const key = (c) => {
      const [a, b] = [badness(unitAt(c, state.s, state.a)), badness(unitAt(c, state.s, state.b))];
      return by === "worst" ? a : a === null || b === null ? null : Math.abs(a - b);
    };
    return all.sort((one, two) => (key(two) ?? -Infinity) - (key(one) ?? -Infinity) || one - two);
  }

  function syncPickers() {
    fill(get("pick-case"), casesInOrder().map((c) => [c, run.cases[c].id]));
    get("pick-case").value = state.c;
    get("pick-seed").value = state.s;
    get("pick-a").value = state.a;
    get("pick-b").value = state.b ?? NONE;
    get("pick-left").value = state.left;
  }

  function moveCase(by) {
    const cases = casesInOrder();
    state.c = cases[(cases.indexOf(state.c) + by + cases.length) % cases.length];
    show(0);
  }

  function remember(time) {
    const at = time === null ? "" : `.${time.toFixed(4)}`;
    try {
      history.replaceState(null, "", `#clip=${state.c}.${state.s}.${state.a}.${state.b ?? NONE}${at}`);
    } catch { /* some browsers refuse this for files; the page works without */ }
  }

  /* "#clip=case.seed.a.b.time": positions only; b may be "-" (the best other model) or "none". */
  function open(hash) {
    const match = /^#clip=(\d+)\.(\d+)\.(\d+)\.(\d+|-|none)(?:\.(\d+(?:\.\d+)?))?$/.exec(hash);
    if (!match) return false;
    const [c, s, a] = match.slice(1, 4).map(Number);
    const other = a === 0 ? 1 : 0;
    let b = match[4] === "-" ? (other < run.models.length ? other : null) : match[4] === NONE ? null : Number(match[4]);
    if (c >= run.cases.length || s >= run.seeds.length || a >= run.models.length) return false;
    if (b !== null && b >= run.models.length) b = null;
    Object.assign(state, { c, s, a, b });
    show(match[5] ? Number(match[5]) + 1e-4 : 0);
    return true;
  }

  function reveal() {
    get("clips").scrollIntoView({ block: "start" });
    viewer.focus({ preventScroll: true });
  }

  const KEYS = {
    " ": () => player.toggle(),
    ArrowLeft: (event) => player.step(event.shiftKey ? -10 : -1),
    ArrowRight: (event) => player.step(event.shiftKey ? 10 : 1),
    Home: () => { player.pause(); player.seek(0); },
    End: () => { player.pause(); player.seek(player.duration); },
  };
  document.addEventListener("keydown", (event) => {
    const { target } = event;
    const box = viewer.getBoundingClientRect();
    const near = box.top < innerHeight * 0.8 && box.bottom > innerHeight * 0.2;
    if (event.ctrlKey || event.altKey || event.metaKey || !(viewer.contains(target) || (target === document.body && near))) return;
    if (target.matches("select, summary, a, .scroll") || (event.key === " " && target.matches("button, input[type=checkbox]"))) return;
    const act = KEYS[event.key];
    if (!act) return;
    event.preventDefault();
    act(event);
  });

  fill(get("pick-seed"), run.seeds.map((seed, s) => [s, seed]));
  fill(get("pick-a"), run.models.map((name, m) => [m, name]));
  fill(get("pick-b"), [...run.models.map((name, m) => [m, name]), [NONE, "—"]]);
  fill(get("pick-order"), [["listed", "as listed"], ["worst", "worst A first"], ...(run.models.length > 1 ? [["gap", "largest A–B gap"]] : [])]);
  get("seed-label").hidden = run.seeds.length < 2;
  get("b-label").hidden = run.models.length < 2;
  const pick = (id, change) => get(id).addEventListener("change", (event) => change(event.target.value));
  pick("pick-case", (value) => { state.c = Number(value); show(0); });
  pick("pick-seed", (value) => { state.s = Number(value); show(); });
  pick("pick-a", (value) => { state.a = Number(value); show(); });
  pick("pick-b", (value) => { state.b = value === NONE ? null : Number(value); show(); });
  pick("pick-left", (value) => { state.left = value; show(); });
  pick("pick-order", () => { state.c = casesInOrder()[0]; show(0); });
  pick("speed", (value) => { player.speed = Number(value); });
  pick("loop", () => { player.loop = get("loop").checked; });
  pick("show-hands", showOverlays);
  pick("show-driving", showOverlays);
  pick("show-faces", showOverlays);
  pick("zoom", showZoom);
  pick("show-closeups", () => show(player.time));
  get("previous-case").addEventListener("click", () => moveCase(-1));
  get("next-case").addEventListener("click", () => moveCase(1));
  get("play").addEventListener("click", () => player.toggle());
  get("back").addEventListener("click", () => player.step(-1));
  get("forward").addEventListener("click", () => player.step(1));
  get("scrub").addEventListener("input", (event) => { player.pause(); player.seek(Number(event.target.value) / player.fps + 1e-4); });
  for (const key of order) panels[key].stage.addEventListener("click", () => { player.toggle(); viewer.focus({ preventScroll: true }); });
  get("gallery")?.addEventListener("click", (event) => {
    const link = event.target.closest("a");
    if (!link || event.ctrlKey || event.metaKey || event.shiftKey) return;
    event.preventDefault();
    if (open(link.hash)) reveal();
  });
  addEventListener("hashchange", () => { if (open(location.hash)) reveal(); });

  if (open(location.hash)) reveal();
  else show(0);
})();
