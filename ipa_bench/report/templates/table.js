"use strict";
/* Sortable tables: a button in each head, aria-sort on the head, missing values last whichever way. */
(() => {
  const collator = new Intl.Collator(undefined, { numeric: true, sensitivity: "base" });

  function compare(kind, sign) {
    return (a, b) => {
      if (a.key === "" || b.key === "") return (a.key === "") - (b.key === "") || a.place - b.place;
      const order = kind === "number" ? Number(a.key) - Number(b.key) : collator.compare(a.key, b.key);
      return sign * order || a.place - b.place;
    };
  }

  function sort(table, head, direction) {
    const column = [...head.parentElement.children].indexOf(head);
    const kind = head.querySelector("button").dataset.kind;
    const body = table.tBodies[0];
    const rows = [...body.rows].map((row, place) => ({ row, place, key: row.cells[column].dataset.sort ?? "" }));
    rows.sort(compare(kind, direction === "ascending" ? 1 : -1));
    body.append(...rows.map(({ row }) => row));
    for (const other of head.parentElement.children) other.removeAttribute("aria-sort");
    head.setAttribute("aria-sort", direction);
  }

  for (const table of document.querySelectorAll("table.sortable")) {
    for (const button of table.querySelectorAll("thead button")) {
      const head = button.closest("th");
      button.addEventListener("click", () => {
        const now = head.getAttribute("aria-sort");
        sort(table, head, now ? (now === "ascending" ? "descending" : "ascending") : button.dataset.first);
      });
    }
  }

  const all = document.getElementById("all-metrics");
  all?.addEventListener("change", () => document.getElementById("board").classList.toggle("all", all.checked));

  function filter(select, rows, key) {
    const apply = () => rows.forEach((row) => { row.hidden = select.value !== "" && row.dataset[key] !== select.value; });
    select?.addEventListener("change", apply);
    if (select) apply();
  }
  filter(document.getElementById("pair"), document.querySelectorAll("#pairs tbody tr"), "pair");

  /* Worst moments: of one model, or the worst of each case; a reason without a card is not there. */
  const model = document.getElementById("gallery-model");
  model?.addEventListener("change", () => {
    for (const group of document.querySelectorAll("#gallery .reason")) {
      const cards = [...group.querySelectorAll("li")];
      for (const card of cards) card.hidden = model.value === "" ? !("first" in card.dataset) : card.dataset.model !== model.value;
      group.hidden = cards.every((card) => card.hidden);
    }
  });
})();
