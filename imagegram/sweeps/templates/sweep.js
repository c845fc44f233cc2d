"use strict";
(() => {
  // Figures: drawn in the light page's colours, exchanged where the screen is dark; paper is light.
  const partners = JSON.parse(document.getElementById("partners").textContent);
  const dark = matchMedia("(prefers-color-scheme: dark)");
  const recolored = (node) => {
    if (typeof node === "string") return Object.hasOwn(partners, node) ? partners[node] : node;
    if (Array.isArray(node)) return node.map(recolored);
    if (node === null || typeof node !== "object") return node;
    return Object.fromEntries(Object.entries(node).map(([key, value]) => [key, recolored(value)]));
  };
  const draw = (isDark) => {
    for (const plot of document.querySelectorAll(".plot")) {
      const spec = JSON.parse(plot.previousElementSibling.textContent);
      const { data, layout } = isDark ? recolored(spec) : spec;
      if (plot.classList.contains("large") && plot.clientWidth < 500) layout.height = 400;
      Plotly.react(plot, data, layout, {
        responsive: true,
        displaylogo: false,
        modeBarButtons: [["toImage"]],
        toImageButtonOptions: { format: "png", scale: 2, filename: "figure" },
      });
    }
  };
  draw(dark.matches);
  dark.addEventListener("change", () => draw(dark.matches));
  // A figure keeps the width that it has on the screen; on paper it is scaled to the page.
  const figures = () => document.querySelectorAll(".plot .main-svg");
  addEventListener("beforeprint", () => {
    draw(false);
    for (const svg of figures()) {
      svg.setAttribute("viewBox", `0 0 ${svg.getAttribute("width")} ${svg.getAttribute("height")}`);
      svg.setAttribute("preserveAspectRatio", "xMinYMin meet");
    }
  });
  addEventListener("afterprint", () => {
    for (const svg of figures()) svg.removeAttribute("viewBox");
    draw(dark.matches);
  });

  // Tables: a click on a heading sorts, another turns the order; empty cells stay last.
  const key = (row, column) => row.cells[column].dataset.sort ?? row.cells[column].textContent.trim();
  const compare = (a, b) => {
    const numbers = [Number(a), Number(b)];
    if (numbers.every(Number.isFinite)) return numbers[0] - numbers[1];
    return a.localeCompare(b, undefined, { numeric: true });
  };
  for (const table of document.querySelectorAll("table.sortable")) {
    const headings = [...table.tHead.rows[table.tHead.rows.length - 1].cells];
    headings.forEach((heading, column) => {
      const button = document.createElement("button");
      button.append(...heading.childNodes);
      heading.append(button);
      button.addEventListener("click", () => {
        const order = heading.ariaSort === "ascending" ? "descending" : "ascending";
        const sign = order === "ascending" ? 1 : -1;
        for (const other of headings) other.removeAttribute("aria-sort");
        heading.setAttribute("aria-sort", order);
        const body = table.tBodies[0];
        const rows = [...body.rows].map((row, place) => ({ row, place, key: key(row, column) }));
        rows.sort((a, b) => {
          if ((a.key === "") !== (b.key === "")) return a.key === "" ? 1 : -1;
          return sign * compare(a.key, b.key) || a.place - b.place;
        });
        body.append(...rows.map(({ row }) => row));
      });
    });
  }
})();
