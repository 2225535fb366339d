/* Hand skeletons over a video: 21 joints in MediaPipe's order, left and right in their own colours. */
const BONES = [
  [0, 1], [1, 2], [2, 3], [3, 4], [0, 5], [5, 6], [6, 7], [7, 8], [5, 9], [9, 10], [10, 11], [11, 12],
  [9, 13], [13, 14], [14, 15], [15, 16], [13, 17], [17, 18], [18, 19], [19, 20], [0, 17],
];
const STEPS = 10000; // landmarks are whole numbers: this many steps across the frame
const HAND_COLOURS = ["#ffb000", "#3fd0ff"]; // left, right; they stand out from skin
const DRIVING_COLOUR = "#ffffff";
const OUTLINE = "rgba(10, 12, 16, 0.75)";

class Overlay {
  constructor(canvas, video) {
    this.canvas = canvas;
    this.video = video;
    this.times = [];
    this.scale = 1; // how much the panel is magnified
    this.layers = []; // each {hands, driving}: per frame [left, right], 42 whole numbers or null
    new ResizeObserver(() => this.draw()).observe(canvas);
  }

  set(times, layers) {
    this.times = times;
    this.layers = layers;
    this.draw();
  }

  /* The frame of the data that the video shows: the last one that began before the middle of the shown frame. */
  get index() {
    const now = this.video.shown + 0.5 / (this.video.fps || 25);
    let low = 0;
    let high = this.times.length;
    while (low < high) {
      const middle = (low + high) >> 1;
      if (this.times[middle] < now) low = middle + 1;
      else high = middle;
    }
    return low - 1;
  }

  draw() {
    const { canvas } = this;
    const ratio = (window.devicePixelRatio || 1) * this.scale;
    const [width, height] = [Math.round(canvas.clientWidth * ratio), Math.round(canvas.clientHeight * ratio)];
    if (canvas.width !== width || canvas.height !== height) Object.assign(canvas, { width, height });
    const context = canvas.getContext("2d");
    context.clearRect(0, 0, width, height);
    const index = this.index;
    if (index < 0 || !width) return;
    const pen = Math.max(1.4, width / this.scale / 260) * Math.sqrt(this.scale);
    for (const { hands, driving } of this.layers) {
      (hands[index] ?? []).forEach((hand, slot) => {
        if (hand) this.hand(context, hand, driving ? DRIVING_COLOUR : HAND_COLOURS[slot], pen, driving);
      });
    }
  }

  hand(context, hand, colour, pen, driving) {
    const { width, height } = this.canvas;
    const at = (joint) => [(hand[2 * joint] / STEPS) * width, (hand[2 * joint + 1] / STEPS) * height];
    context.lineCap = context.lineJoin = "round";
    context.setLineDash(driving ? [3 * pen, 2.4 * pen] : []);
    const bones = new Path2D();
    for (const [from, to] of BONES) {
      bones.moveTo(...at(from));
      bones.lineTo(...at(to));
    }
    for (const [style, size] of [[OUTLINE, 2.4 * pen], [colour, pen]]) {
      context.strokeStyle = style;
      context.lineWidth = size;
      context.stroke(bones);
    }
    if (driving) return;
    context.fillStyle = colour;
    context.strokeStyle = OUTLINE;
    context.lineWidth = 0.5 * pen;
    for (let joint = 0; joint < 21; joint += 1) {
      context.beginPath();
      context.arc(...at(joint), joint % 4 === 0 ? 1.5 * pen : 1.1 * pen, 0, 2 * Math.PI);
      context.fill();
      context.stroke();
    }
  }
}
