/* Hand skeletons over a video: 21 joints in MediaPipe's order, left and right in their own colours. */
const BONES = [
  [0, 1], [1, 2], [2, 3], [3, 4], [0, 5], [5, 6], [6, 7], [7, 8], [5, 9], [9, 10], [10, 11], [11, 12],
  [9, 13], [13, 14], [14, 15], [15, 16], [13, 17], [17, 18], [18, 19], [19, 20], [0, 17],
];
const STEPS = 10000; // landmarks are whole numbers: this many steps across the frame
const HAND_COLOURS = ["#ffb000", "#3fd0ff"]; // left, right; they stand out from skin
const DRIVING_COLOUR = "#ffffff";
const OUTLINE = "rgba(10, 12, 16, 0.75)";

/* People by their number; what is nobody's face is grey. Apart from the hands' colours. */
const PERSON_COLOURS = ["#62c462", "#e46fd0", "#ff7b54", "#8f8cff", "#c9c94a", "#4fd1b5"];
const personColour = (whose) => (whose >= 0 ? PERSON_COLOURS[whose % PERSON_COLOURS.length] : "#b9bec4");

class Overlay {
  constructor(canvas, video) {
    this.canvas = canvas;
    this.video = video;
    this.times = [];
    this.scale = 1; // how much the panel is magnified
    this.layers = []; // each {hands, driving}: per frame [left, right], 42 whole numbers or null; or {people}
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
    for (const { hands, driving, people } of this.layers) {
      people?.box[index]?.forEach((box, person) => { if (box) this.face(context, people, person, index, pen); });
      (hands?.[index] ?? []).forEach((hand, slot) => {
        if (hand) this.hand(context, hand, driving ? DRIVING_COLOUR : HAND_COLOURS[slot], pen, driving);
      });
    }
  }

  /* A face's box, its eyes, nose and mouth, in the colour and with the name of whose it is. */
  face(context, people, person, index, pen) {
    const { width, height } = this.canvas;
    const [x0, y0, x1, y1] = people.box[index][person].map((value, axis) => (value / STEPS) * (axis % 2 ? height : width));
    const whose = people.who[person][index];
    const colour = personColour(whose);
    context.setLineDash(whose === person || whose < 0 ? [] : [4 * pen, 3 * pen]);
    for (const [style, size] of [[OUTLINE, 2.4 * pen], [colour, pen]]) {
      context.strokeStyle = style;
      context.lineWidth = size;
      context.strokeRect(x0, y0, x1 - x0, y1 - y0);
    }
    context.setLineDash([]);
    context.fillStyle = colour;
    const points = people.points[index][person];
    for (let place = 0; place < points.length; place += 2) {
      context.beginPath();
      context.arc((points[place] / STEPS) * width, (points[place + 1] / STEPS) * height, 1.2 * pen, 0, 2 * Math.PI);
      context.fill();
    }
    const text = people.names[whose] ?? "too small";
    context.font = `${7.5 * pen}px system-ui, sans-serif`;
    context.lineWidth = 2 * pen;
    context.strokeStyle = OUTLINE;
    const baseline = y0 > 10 * pen ? y0 - 2.5 * pen : y1 + 8 * pen;
    context.strokeText(text, x0, baseline);
    context.fillText(text, x0, baseline);
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
