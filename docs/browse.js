// For docs/browse.py: opens PAGES at WIDTHS in a frame and writes into the title how wide they are and how well they read.
const numbers = colour => (colour.match(/[\d.]+/g) || [0, 0, 0]).map(Number);
const linear = value => (value /= 255) <= 0.04045 ? value / 12.92 : ((value + 0.055) / 1.055) ** 2.4;
const luminance = ([red, green, blue]) => 0.2126 * linear(red) + 0.7152 * linear(green) + 0.0722 * linear(blue);

function background(view, element) {
  for (; element; element = element.parentElement) {
    const colour = numbers(view.getComputedStyle(element).backgroundColor);
    if (colour.length < 4 || colour[3] > 0.5) return colour;
  }
  return [255, 255, 255];
}

function contrast(view, element) { // as WCAG 2 defines it; 21 of what is not seen
  const style = view.getComputedStyle(element), ink = numbers(style.color);
  const isText = [...element.childNodes].some(node => node.nodeType === 3 && node.textContent.trim());
  if (!isText || style.visibility === "hidden" || !element.getClientRects().length || ink[3] < 0.1) return 21;
  const [low, high] = [luminance(ink), luminance(background(view, element))].sort((one, other) => one - other);
  return (high + 0.05) / (low + 0.05);
}

function look(view) {
  const document = view.document, all = [...document.querySelectorAll("body *")];
  const values = all.map(element => contrast(view, element)), least = values.indexOf(Math.min(...values));
  return [document.documentElement.scrollWidth, values[least], all[least].textContent.trim().slice(0, 40)];
}

(async () => {
  const frame = document.querySelector("iframe"), seen = [];
  frame.style = "height: 900px; border: 0";
  for (const width of WIDTHS) for (const page of PAGES) {
    frame.style.width = `${width}px`;
    await new Promise(done => { frame.onload = done; frame.src = page; });
    await new Promise(done => setTimeout(done, 30)); // its scripts
    seen.push([page, width, ...look(frame.contentWindow)]);
  }
  document.title = JSON.stringify(seen);
})();
