"use strict";
(() => {
  const data = JSON.parse(document.getElementById("data").textContent);
  const at = (id) => document.getElementById(id);
  const left = at("left"), right = at("right");
  let annotator = "", votes = [], order = [], shown = null, since = 0;

  // FNV-1a: who sees which clip on which side, and in which order, follows from the name alone
  const hash = (text) => {
    let value = 2166136261;
    for (const char of text) value = Math.imul(value ^ char.codePointAt(0), 16777619) >>> 0;
    // the last bits of FNV are weak: mix them
    value ^= value >>> 15; value = Math.imul(value, 2246822507) >>> 0; value ^= value >>> 13;
    return value >>> 0;
  };
  const place = () => `ipa-bench votes ${data.file} ${annotator}`;
  const keep = () => { try { localStorage.setItem(place(), JSON.stringify(votes)); } catch (error) { at("count").textContent = "This browser keeps nothing: save the file before you leave."; } };
  const kept = () => { try { return JSON.parse(localStorage.getItem(place())) || []; } catch (error) { return []; } };

  const begin = (event) => {
    event.preventDefault();
    annotator = at("annotator").value.trim();
    if (!annotator) return;
    const known = new Set(data.comparisons.map((each) => each.id));
    votes = kept().filter((vote) => known.has(vote.comparison));
    order = data.comparisons.slice().sort((a, b) => hash(annotator + a.id) - hash(annotator + b.id));
    at("start").hidden = true;
    at("save").hidden = false;
    next();
  };

  const next = () => {
    const voted = new Set(votes.map((vote) => vote.comparison));
    shown = order.find((each) => !voted.has(each.id)) || null;
    at("work").hidden = shown === null;
    at("done").hidden = shown !== null;
    at("bar").max = order.length;
    at("bar").value = voted.size;
    if (!shown) { left.pause(); right.pause(); return; }
    at("count").textContent = `${voted.size + 1} of ${order.length}`;
    const side = hash(shown.id + " side " + annotator) % 2 ? "a" : "b";
    shown.left = side;
    left.src = side === "a" ? shown.a : shown.b;
    right.src = side === "a" ? shown.b : shown.a;
    const people = at("people");
    people.replaceChildren(...shown.references.map(([name, picture]) => {
      const figure = document.createElement("figure"), image = document.createElement("img"), caption = document.createElement("figcaption");
      image.src = picture; image.alt = `reference of ${name}`; caption.textContent = name;
      figure.append(image, caption);
      return figure;
    }));
    since = performance.now();
    together();
  };

  // both from their first frame, and again when both have ended
  const together = () => {
    for (const video of [left, right]) { video.currentTime = 0; video.play().catch(() => {}); }
  };
  const again = () => { if (left.ended && right.ended) together(); };
  const pause = () => {
    if (left.paused && right.paused) { right.currentTime = left.currentTime; left.play().catch(() => {}); right.play().catch(() => {}); }
    else { left.pause(); right.pause(); }
  };

  const vote = (side) => {
    if (!shown) return;
    const other = shown.left === "a" ? "b" : "a";
    const choice = side === "tie" ? "tie" : side === "left" ? shown.left : other;
    votes.push({ comparison: shown.id, choice, annotator, left: shown.left, seconds: Math.round(performance.now() - since) / 1000 });
    keep();
    next();
  };
  const undo = () => { if (votes.length) { votes.pop(); keep(); next(); } };

  const save = () => {
    const text = JSON.stringify({ schema_version: 1, votes }, null, 1);
    const link = document.createElement("a");
    link.href = URL.createObjectURL(new Blob([text], { type: "application/json" }));
    link.download = `votes-${annotator.replace(/[^\p{L}\p{N}_-]+/gu, "_")}.json`;
    link.click();
    setTimeout(() => URL.revokeObjectURL(link.href), 1000);
  };

  at("start").addEventListener("submit", begin);
  at("undo").addEventListener("click", undo);
  at("pause").addEventListener("click", pause);
  at("save").addEventListener("click", save);
  for (const button of document.querySelectorAll("[data-vote]")) button.addEventListener("click", () => vote(button.dataset.vote));
  for (const video of [left, right]) video.addEventListener("ended", again);
  document.addEventListener("keydown", (event) => {
    if (event.target instanceof HTMLInputElement || event.ctrlKey || event.metaKey || event.altKey) return;
    const does = { a: () => vote("left"), b: () => vote("right"), t: () => vote("tie"), u: undo, " ": pause }[event.key.toLowerCase()];
    if (does) { event.preventDefault(); does(); }
  });
})();
