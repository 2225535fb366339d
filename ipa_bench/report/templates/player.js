/* Several videos on one clock: the longest one's own time. The others follow it by small changes of speed; a jump is a
   seek. Seeks aim at the middle of a frame, so that rounding cannot show its neighbour. */
class Player {
  /* onTick(): the position may have changed. onState(): playing, duration or sources have. onFrame(video): it shows
     another frame, video.shown seconds from its start. */
  constructor(videos, { onTick, onState, onFrame }) {
    Object.assign(this, { videos, onTick, onState, onFrame });
    this.time = 0;
    this.fps = 25;
    this.speed = 1;
    this.loop = true;
    this.playing = false;
    this.turn = 0; // grows with every play and pause, so that a late promise knows that it is late
    for (const video of videos) this.watch(video);
  }

  watch(video) {
    video.shown = 0;
    video.addEventListener("loadedmetadata", () => { this.aim(video, this.time); this.onState(); });
    video.addEventListener("error", () => this.onState());
    video.addEventListener("seeked", () => {
      if (video.wanted != null) {
        const wanted = video.wanted;
        video.wanted = null;
        this.aim(video, wanted);
      } else if (!video.requestVideoFrameCallback) this.showing(video, video.currentTime);
    });
    if (!video.requestVideoFrameCallback) {
      video.addEventListener("timeupdate", () => this.showing(video, video.currentTime));
      return;
    }
    const presented = (_, frame) => {
      this.showing(video, frame.mediaTime);
      video.requestVideoFrameCallback(presented);
    };
    video.requestVideoFrameCallback(presented);
  }

  showing(video, time) {
    video.shown = time;
    this.onFrame(video);
  }

  /* clips: for each video {src, fps} or null. The position stays, so that models can be swapped at one moment. */
  load(clips) {
    this.pause();
    this.fps = Math.max(1, ...clips.filter(Boolean).map((clip) => clip.fps));
    this.videos.forEach((video, index) => {
      const clip = clips[index];
      video.fps = clip?.fps ?? this.fps;
      if ((clip?.src ?? "") === (video.getAttribute("src") ?? "")) return;
      video.wanted = null;
      if (clip) video.src = clip.src;
      else video.removeAttribute("src");
      video.load();
    });
    this.onState();
  }

  get live() {
    return this.videos.filter((video) => video.hasAttribute("src") && !video.error && video.readyState >= 1);
  }

  get master() {
    return this.live.reduce((longest, video) => (longest && longest.duration >= video.duration ? longest : video), null);
  }

  get duration() { return this.master?.duration ?? 0; }
  get frames() { return Math.max(1, Math.round(this.duration * this.fps)); }
  get frame() { return Math.min(this.frames - 1, Math.max(0, Math.floor(this.time * this.fps + 1e-3))); }

  aim(video, time) {
    const target = Math.max(0, Math.min(time, video.duration - 0.5 / video.fps));
    if (video.seeking) video.wanted = target; // the decoder finishes one seek at a time
    else if (Math.abs(video.currentTime - target) > 1e-4) video.currentTime = target;
  }

  seek(time) {
    const last = this.live.length ? this.frames - 1 : Infinity; // before a video is open its end is unknown
    const frame = Math.min(last, Math.max(0, Math.floor(time * this.fps + 1e-3)));
    this.time = (frame + 0.5) / this.fps;
    for (const video of this.live) this.aim(video, this.time);
    this.onTick();
  }

  step(count) {
    this.pause();
    this.seek((this.frame + count + 0.5) / this.fps);
  }

  toggle() {
    if (this.playing) this.pause();
    else this.play();
  }

  pause() {
    this.turn += 1;
    if (!this.playing) return;
    this.playing = false;
    for (const video of this.videos) video.pause();
    this.seek(this.time); // all of them on one frame
    this.onState();
  }

  async play() {
    if (this.playing || !this.live.length) return;
    if (this.frame >= this.frames - 1) this.seek(0);
    this.playing = true;
    this.turn += 1;
    const turn = this.turn;
    this.onState();
    await this.settled();
    if (turn !== this.turn) return;
    const due = this.live.filter((video) => !this.over(video, this.time));
    await Promise.allSettled(due.map((video) => {
      video.playbackRate = this.speed;
      return video.play();
    }));
    if (turn === this.turn) this.tick(turn);
  }

  /* Until no video is seeking. */
  async settled() {
    for (const video of this.live) {
      while (video.seeking) await new Promise((done) => video.addEventListener("seeked", done, { once: true }));
    }
  }

  over(video, time) { return time >= video.duration - 0.5 / video.fps; }

  tick(turn) {
    if (turn !== this.turn) return;
    const master = this.master;
    if (!master || master.ended || master.currentTime >= master.duration - 0.2 / master.fps) {
      this.finish();
      return;
    }
    this.time = master.currentTime;
    if (master.playbackRate !== this.speed) master.playbackRate = this.speed;
    for (const video of this.live) if (video !== master) this.follow(video);
    this.onTick();
    requestAnimationFrame(() => this.tick(turn));
  }

  follow(video) {
    if (this.over(video, this.time) || video.seeking) return; // a shorter clip rests on its last frame
    const ahead = video.currentTime - this.time;
    if (Math.abs(ahead) > 0.4) {
      video.currentTime = this.time;
      return;
    }
    if (video.paused) video.play().catch(() => {});
    const nudge = Math.abs(ahead) < 0.006 ? 0 : Math.max(-0.3, Math.min(0.3, 4 * ahead));
    const rate = Math.max(0.0625, this.speed * (1 - nudge)); // browsers refuse slower
    if (Math.abs(video.playbackRate - rate) > 1e-3) video.playbackRate = rate;
  }

  finish() {
    for (const video of this.videos) video.pause();
    this.playing = false;
    this.turn += 1;
    if (this.loop && this.live.length) {
      this.seek(0);
      this.play();
    } else {
      this.seek(this.duration);
      this.onState();
    }
  }
}
