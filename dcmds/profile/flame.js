
// A click goes into a function: it and what it calls take all the room. Ctrl-F or [search] marks functions.
const boxes = [...document.querySelectorAll("g.box")];
const full = 1200, letter = 7;
const of = (box) => ({ x: +box.dataset.x, w: +box.dataset.w, y: +box.dataset.y, name: box.dataset.n });
function lay(box, x, w) {
  const rect = box.querySelector("rect"), text = box.querySelector("text"), name = box.dataset.n;
  rect.setAttribute("x", x); rect.setAttribute("width", w);
  text.setAttribute("x", x + 2);
  const room = Math.floor((w - 4) / letter);
  text.textContent = name.length <= room ? name : room < 3 ? "" : name.slice(0, room - 1) + "…";
}
function into(target) {
  const t = of(target), scale = full / t.w;
  for (const box of boxes) {
    const b = of(box);
    const inside = b.x >= t.x - 0.01 && b.x + b.w <= t.x + t.w + 0.01;
    const below = b.y < t.y && b.x <= t.x + 0.01 && b.x + b.w >= t.x + t.w - 0.01;
    box.style.display = below || (inside && b.y >= t.y) ? "" : "none";
    box.classList.toggle("faint", below);
    if (below) lay(box, 0, full);
    else if (inside) lay(box, (b.x - t.x) * scale, b.w * scale);
  }
  document.getElementById("back").setAttribute("visibility", t.y > 0 ? "visible" : "hidden");
}
function search() {
  const wanted = prompt("Functions that match (regular expression):", "");
  let test = null;
  try { if (wanted) test = new RegExp(wanted); } catch (e) { alert(e); return; }
  // of boxes one above the other only the lowest counts
  const ranges = [];
  for (const box of boxes) {
    const b = of(box), found = test !== null && test.test(b.name);
    box.classList.toggle("found", found);
    if (found) ranges.push([b.x, b.x + b.w]);
  }
  ranges.sort((a, b) => a[0] - b[0]);
  let sum = 0, end = 0;
  for (const [from, to] of ranges) { sum += Math.max(0, to - Math.max(from, end)); end = Math.max(end, to); }
  status(test ? "matched: " + (100 * sum / full).toFixed(1) + "%" : " ");
}
function status(text) { document.getElementById("status").textContent = text; }
for (const box of boxes) {
  box.addEventListener("click", () => into(box));
  box.addEventListener("mouseover", () => status(box.querySelector("title").textContent));
}
document.getElementById("back").addEventListener("click", () => into(boxes[0]));
document.getElementById("search").addEventListener("click", search);
window.addEventListener("keydown", (e) => {
  if (e.key === "F3" || (e.ctrlKey && e.key === "f")) { e.preventDefault(); search(); }
});
document.documentElement.dataset.ready = boxes.length;
