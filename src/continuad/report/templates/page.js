"use strict";
// Sort a table by the heading that was clicked: numbers as numbers, what is not available last.
for (const table of document.querySelectorAll("table.sortable")) {
  const heads = [...table.tHead.rows[0].cells];
  heads.forEach((head, column) => {
    head.tabIndex = 0;
    const sort = () => {
      const numeric = head.classList.contains("number");
      const down = head.getAttribute("aria-sort") ? head.getAttribute("aria-sort") === "ascending" : numeric;
      const key = (row) => {
        const text = row.cells[column].textContent.trim();
        return numeric ? parseFloat(text.replace("−", "-").replace("< ", "")) : text;
      };
      const order = (a, b) => {
        const [x, y] = [key(a), key(b)];
        if (numeric && (isNaN(x) || isNaN(y))) return isNaN(x) - isNaN(y);
        return (numeric ? x - y : x.localeCompare(y, undefined, { numeric: true })) * (down ? -1 : 1);
      };
      heads.forEach((other) => other.removeAttribute("aria-sort"));
      head.setAttribute("aria-sort", down ? "descending" : "ascending");
      table.tBodies[0].append(...[...table.tBodies[0].rows].sort(order));
    };
    head.addEventListener("click", sort);
    head.addEventListener("keydown", (event) => { if (event.key === "Enter") sort(); });
  });
}

// Pictures: one strategy with all products, or one product under all strategies.
const choose = document.querySelector(".choose");
if (choose) {
  const [run, product] = choose.querySelectorAll("select");
  const show = () => {
    for (const one of document.querySelectorAll(".product")) {
      one.hidden = (run.value && one.dataset.run !== run.value) || (product.value && one.dataset.product !== product.value);
    }
  };
  choose.hidden = false;
  choose.addEventListener("change", show);
  choose.addEventListener("submit", (event) => event.preventDefault());
  run.value = choose.dataset.first;
  show();
}

// On paper nothing can be unfolded.
addEventListener("beforeprint", () => document.querySelectorAll("details").forEach((one) => { one.open = true; }));
