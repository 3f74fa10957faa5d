// The table of units sorts by the column that is clicked; the buttons choose which units are shown. The page is whole without it.
const table = document.querySelector('#units');
const value = (row, k) => { const t = row.cells[k].dataset.value; return t === '' ? -Infinity : isNaN(t) ? t : +t; };
for (const [k, head] of [...(table?.tHead.rows[0].cells ?? [])].entries()) {
  head.addEventListener('click', () => {
    const up = head.getAttribute('aria-sort') === 'descending';
    for (const other of table.tHead.rows[0].cells) other.removeAttribute('aria-sort');
    head.setAttribute('aria-sort', up ? 'ascending' : 'descending');
    const rows = [...table.tBodies[0].rows];
    rows.sort((a, b) => { const [x, y] = [value(a, k), value(b, k)]; return (x < y ? -1 : x > y ? 1 : 0) * (up ? 1 : -1); });
    table.tBodies[0].append(...rows);
  });
}
for (const button of document.querySelectorAll('nav button')) {
  button.addEventListener('click', () => {
    for (const other of document.querySelectorAll('nav button')) other.setAttribute('aria-pressed', other === button);
    for (const one of document.querySelectorAll('[data-label]')) {
      one.hidden = button.value !== '' && one.dataset.label !== button.value;
    }
  });
}
