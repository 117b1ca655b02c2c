// Tables of class `list`: a click on a head sorts by its column, and rows can be filtered by words, and by the
// values of a column whose head has `data-choose`. Waves begin where they are marked. Without this script all is
// shown in its order.
"use strict";

function valueOf(row, column, numeric) {
  const cell = row.cells[column];
  const text = cell.dataset.v ?? cell.textContent.trim();
  if (!numeric) return text;
  const value = parseFloat(text.replaceAll(",", ""));
  return Number.isNaN(value) ? -Infinity : value;
}

function sortable(table, rows) {
  const body = table.tBodies[0];
  for (const [column, head] of [...table.tHead.rows[0].cells].entries()) {
    const button = document.createElement("button");
    button.type = "button";
    button.append(...head.childNodes);
    head.append(button);
    const numeric = head.classList.contains("n");
    button.addEventListener("click", () => {
      // numbers begin with the largest
      const before = head.getAttribute("aria-sort");
      const up = before ? before === "descending" : !numeric;
      for (const other of table.tHead.rows[0].cells) other.removeAttribute("aria-sort");
      head.setAttribute("aria-sort", up ? "ascending" : "descending");
      const keyed = rows.map((row) => [valueOf(row, column, numeric), row]);
      const compare = numeric ? (a, b) => a - b : (a, b) => a.localeCompare(b, "en", { numeric: true });
      keyed.sort(([a], [b]) => (up ? 1 : -1) * compare(a, b));
      body.append(...keyed.map(([, row]) => row));
    });
  }
}

function filtered(table, rows) {
  const bar = document.createElement("div");
  bar.className = "filter";
  const words = document.createElement("input");
  words.type = "search";
  words.placeholder = "filter";
  words.setAttribute("aria-label", `filter the table ${table.id}`);
  const said = document.createElement("span");
  const choices = [];
  bar.append(words);
  for (const [column, head] of [...table.tHead.rows[0].cells].entries()) {
    if (head.dataset.choose === undefined) continue;
    const values = [...new Set(rows.map((row) => valueOf(row, column, false)))].sort();
    if (values.length < 2) continue;
    const select = document.createElement("select");
    const title = head.textContent.trim();
    select.setAttribute("aria-label", title);
    select.append(new Option(`${title}: all`, ""));
    for (const value of values) select.append(new Option(value || "none", `=${value}`));
    choices.push([column, select]);
    bar.append(select);
  }
  bar.append(said);
  const texts = new Map(rows.map((row) => [row, row.textContent.toLowerCase()]));
  const apply = () => {
    const wanted = words.value.toLowerCase().split(/\s+/).filter(Boolean);
    let shown = 0;
    for (const row of rows) {
      const fits = wanted.every((word) => texts.get(row).includes(word)) &&
        choices.every(([column, select]) => !select.value || select.value === `=${valueOf(row, column, false)}`);
      row.hidden = !fits;
      shown += fits;
    }
    const all = `${rows.length} ${rows.length === 1 ? "row" : "rows"}`;
    said.textContent = shown === rows.length ? all : `${shown} of ${all}`;
  };
  words.addEventListener("input", apply);
  for (const [, select] of choices) select.addEventListener("change", apply);
  apply();
  (table.closest(".wide") ?? table).before(bar);
}

for (const table of document.querySelectorAll("table.list")) {
  const rows = [...table.tBodies[0].rows];
  filtered(table, rows);
  sortable(table, rows);
}

for (const box of document.querySelectorAll(".waves")) {
  const mark = box.querySelector(".mark");
  if (mark) box.scrollLeft = mark.getBBox().x - box.clientWidth / 2;
}
