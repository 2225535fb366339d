/* One camera for all panels: it follows the hands of the clip smoothly, so that panels stay comparable. */
const ZOOM_SECONDS = 0.5; // the hands' place is averaged over this long before and after
const ZOOM_MAX = 4;

class Zoom {
  constructor() { this.clear(); }

  clear() { Object.assign(this, { times: [], path: [], scale: 1 }); }

  /* hands: per frame [left, right], 42 whole numbers or null; slot: "both", "0" for the left, "1" for the right */
  set(times, hands, slot) {
    this.clear();
    const boxes = hands.map((both) => Zoom.box((slot === "both" ? both : [both[Number(slot)]]).filter(Boolean)));
    const seen = boxes.filter(Boolean);
    if (!seen.length) return;
    this.times = times;
    const largest = seen.map((box) => Math.max(box.width, box.height)).sort((a, b) => a - b)[Math.floor(0.9 * (seen.length - 1))];
    this.scale = Math.min(ZOOM_MAX, Math.max(1, 0.6 / largest));
    let last = seen[0];
    const held = boxes.map((box) => { last = box ?? last; return last; }); // while no hand is seen the camera stays
    const step = times.length > 1 ? (times.at(-1) - times[0]) / (times.length - 1) : 1;
    const reach = Math.max(1, Math.round(ZOOM_SECONDS / step));
    this.path = held.map((_, index) => {
      const near = held.slice(Math.max(0, index - reach), index + reach + 1);
      return ["x", "y"].map((axis) => near.reduce((sum, box) => sum + box[axis], 0) / near.length);
    });
  }

  static box(hands) {
    if (!hands.length) return null;
    const every = hands.flat();
    const [xs, ys] = [0, 1].map((odd) => every.filter((_, place) => place % 2 === odd).map((value) => value / STEPS));
    const [left, right, top, bottom] = [Math.min(...xs), Math.max(...xs), Math.min(...ys), Math.max(...ys)];
    return { x: (left + right) / 2, y: (top + bottom) / 2, width: right - left, height: bottom - top };
  }

  /* A CSS transform for the moment; the picture always fills the panel. */
  at(time) {
    const index = this.times.findLastIndex((each) => each <= time + 1e-3);
    const centre = this.path[Math.max(0, index)];
    if (!centre) return "";
    const room = 0.5 - 0.5 / this.scale;
    const [x, y] = centre.map((value) => Math.max(-room, Math.min(room, 0.5 - value)));
    return `scale(${this.scale.toFixed(3)}) translate(${(100 * x).toFixed(3)}%, ${(100 * y).toFixed(3)}%)`;
  }
}
