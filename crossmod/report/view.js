"use strict";
// Axes of the arrays: 0 to the patient's left, 1 to the back, 2 to the head; axis 0 runs fastest.
const scene = JSON.parse(document.getElementById("voxels").textContent);
const { shape, spacing_mm: spacing, affine, classes } = scene;
const PLANES = {
  axial: { across: 0, down: 1, through: 2, flip: false, sides: ["R", "L", "A", "P"] },
  coronal: { across: 0, down: 2, through: 1, flip: true, sides: ["R", "L", "S", "I"] },
  sagittal: { across: 1, down: 2, through: 0, flip: true, sides: ["A", "P", "S", "I"] },
};
const stride = [1, shape[0], shape[0] * shape[1]];
const byId = (name) => document.getElementById(name);
const view = { at: shape.map((n) => n >> 1), image: 0, outlines: true, cross: true, label: 0, low: 0, high: 255 };

async function unpacked(text) {
  const packed = Uint8Array.from(atob(text), (c) => c.charCodeAt(0));
  const stream = new Blob([packed]).stream().pipeThrough(new DecompressionStream("gzip"));
  return new Uint8Array(await new Response(stream).arrayBuffer());
}

/** The slice with most voxels of the first chosen map that has any; the middle otherwise. */
function fullest() {
  const map = scene.maps.find((one) => one.chosen && one.data.some((label) => label > 0));
  if (!map) return view.at;
  const counts = shape.map((n) => new Uint32Array(n));
  for (let k = 0, n = 0; k < shape[2]; k++)
    for (let j = 0; j < shape[1]; j++)
      for (let i = 0; i < shape[0]; i++, n++)
        if (map.data[n]) { counts[0][i]++; counts[1][j]++; counts[2][k]++; }
  return counts.map((one) => one.indexOf(Math.max(...one)));
}

/** Pixels of a plane through the cross: columns, rows, and where a pixel lies in the arrays. */
function cut(plane) {
  const { across, down, through, flip } = plane;
  const columns = shape[across], rows = shape[down];
  const start = view.at[through] * stride[through];
  const place = (x, y) => start + x * stride[across] + (flip ? rows - 1 - y : y) * stride[down];
  return { columns, rows, place };
}

function drawImage(context, plane, width, height) {
  const { columns, rows, place } = cut(plane);
  const pixels = new ImageData(columns, rows);
  const { data } = scene.images[view.image];
  const scale = 255 / Math.max(1, view.high - view.low);
  for (let y = 0, n = 0; y < rows; y++)
    for (let x = 0; x < columns; x++, n += 4) {
      const gray = (data[place(x, y)] - view.low) * scale;
      pixels.data[n] = pixels.data[n + 1] = pixels.data[n + 2] = gray;
      pixels.data[n + 3] = 255;
    }
  const native = document.createElement("canvas");
  native.width = columns;
  native.height = rows;
  native.getContext("2d").putImageData(pixels, 0, 0);
  context.imageSmoothingEnabled = true;
  context.drawImage(native, 0, 0, width, height);
}

/** Lines along the edges of voxels, so that an outline hides nothing and lies about nothing. */
function drawOutlines(context, plane, width, height) {
  const { columns, rows, place } = cut(plane);
  const sx = width / columns, sy = height / rows;
  for (const map of scene.maps.filter((one) => one.chosen)) {
    const is = (x, y) => {
      if (x < 0 || y < 0 || x >= columns || y >= rows) return 0;
      const label = map.data[place(x, y)];
      return view.label && label !== view.label ? 0 : label;
    };
    context.beginPath();
    for (let y = 0; y <= rows; y++)
      for (let x = 0; x <= columns; x++) {
        const own = is(x, y);
        if (own !== is(x - 1, y)) { context.moveTo(x * sx, y * sy); context.lineTo(x * sx, (y + 1) * sy); }
        if (own !== is(x, y - 1)) { context.moveTo(x * sx, y * sy); context.lineTo((x + 1) * sx, y * sy); }
      }
    context.strokeStyle = map.color;
    context.lineWidth = Math.max(1.5, window.devicePixelRatio * 1.5);
    context.stroke();
  }
}

function drawCross(context, plane, width, height) {
  const { across, down, flip } = plane;
  const row = flip ? shape[down] - 1 - view.at[down] : view.at[down];
  const x = ((view.at[across] + 0.5) / shape[across]) * width, y = ((row + 0.5) / shape[down]) * height;
  const gap = 9 * window.devicePixelRatio;
  context.beginPath();
  for (const [ax, ay, bx, by] of [[0, y, x - gap, y], [x + gap, y, width, y], [x, 0, x, y - gap], [x, y + gap, x, height]]) {
    context.moveTo(ax, ay);
    context.lineTo(bx, by);
  }
  context.strokeStyle = "rgba(255, 255, 255, .45)";
  context.lineWidth = window.devicePixelRatio;
  context.stroke();
}

function drawSides(context, plane, width, height) {
  const size = 13 * window.devicePixelRatio;
  context.font = `${size}px system-ui, sans-serif`;
  context.fillStyle = "rgba(255, 255, 255, .7)";
  context.textBaseline = "middle";
  const [left, right, top, bottom] = plane.sides;
  context.textAlign = "left"; context.fillText(left, size * 0.4, height / 2);
  context.textAlign = "right"; context.fillText(right, width - size * 0.4, height / 2);
  context.textAlign = "center"; context.fillText(top, width / 2, size * 0.8);
  context.fillText(bottom, width / 2, height - size * 0.8);
}

function draw() {
  for (const [name, plane] of Object.entries(PLANES)) {
    const canvas = byId(name);
    const ratio = (shape[plane.down] * spacing[plane.down]) / (shape[plane.across] * spacing[plane.across]);
    const width = Math.round(canvas.clientWidth * window.devicePixelRatio), height = Math.round(width * ratio);
    if (canvas.width !== width || canvas.height !== height) { canvas.width = width; canvas.height = height; }
    const context = canvas.getContext("2d");
    drawImage(context, plane, width, height);
    if (view.outlines) drawOutlines(context, plane, width, height);
    if (view.cross) drawCross(context, plane, width, height);
    drawSides(context, plane, width, height);
    byId(`${name}-level`).value = view.at[plane.through];
    byId(`${name}-number`).textContent = `${view.at[plane.through] + 1} / ${shape[plane.through]}`;
  }
  tell();
}

/** Position, gray level and labels under the cross. */
function tell() {
  const n = view.at.reduce((sum, i, axis) => sum + i * stride[axis], 0);
  const mm = affine.map((row) => row[3] + view.at.reduce((sum, i, axis) => sum + i * row[axis], 0));
  const named = Object.fromEntries(Object.entries(classes).map(([name, label]) => [label, name]));
  const lines = [
    `${mm.map((x) => x.toFixed(1)).join(", ")} mm (RAS+)`,
    `intensity ${(scene.images[view.image].data[n] / 255).toFixed(2)}`,
    ...scene.maps.filter((one) => one.data[n]).map((one) => `${one.name}: ${named[one.data[n]] ?? one.data[n]}`),
  ];
  byId("here").textContent = lines.join("\n");
}

let waiting = false;
function redraw() {
  if (waiting) return;
  waiting = true;
  requestAnimationFrame(() => { waiting = false; draw(); });
}

function move(axis, to) {
  view.at[axis] = Math.min(shape[axis] - 1, Math.max(0, Math.floor(to)));
  redraw();
}

function follow(canvas, plane) {
  const point = (event) => {
    const box = canvas.getBoundingClientRect();
    const y = ((event.clientY - box.top) / box.height) * shape[plane.down];
    move(plane.across, ((event.clientX - box.left) / box.width) * shape[plane.across]);
    move(plane.down, plane.flip ? shape[plane.down] - y : y);
  };
  canvas.addEventListener("pointerdown", (event) => { point(event); canvas.setPointerCapture(event.pointerId); });
  canvas.addEventListener("pointermove", (event) => { if (event.buttons) point(event); });
  canvas.addEventListener("wheel", (event) => {
    event.preventDefault();
    move(plane.through, view.at[plane.through] - Math.sign(event.deltaY));
  }, { passive: false });
  canvas.addEventListener("keydown", (event) => {
    const step = { ArrowUp: 1, ArrowRight: 1, ArrowDown: -1, ArrowLeft: -1 }[event.key];
    if (step) { event.preventDefault(); move(plane.through, view.at[plane.through] + step); }
  });
}

function option(parent, type, text, color, checked, changed) {
  const label = document.createElement("label"), input = document.createElement("input");
  Object.assign(input, { type, name: parent, checked });
  input.addEventListener("change", () => { changed(input.checked); redraw(); });
  label.append(input);
  if (color) {
    const line = document.createElement("i");
    line.style.borderColor = color;
    label.append(line);
  }
  label.append(text);
  byId(parent).append(label);
  return input;
}

function connect() {
  const radios = scene.images.map((one, n) =>
    option("images", "radio", one.name, "", n === view.image, () => { view.image = n; }));
  for (const map of scene.maps)
    option("maps", "checkbox", map.name, map.color, map.chosen, (on) => { map.chosen = on; });
  byId("maps").hidden = !scene.maps.length;
  for (const [name, plane] of Object.entries(PLANES)) {
    const slider = byId(`${name}-level`);
    slider.max = shape[plane.through] - 1;
    slider.addEventListener("input", () => move(plane.through, Number(slider.value)));
    follow(byId(name), plane);
  }
  for (const name of ["low", "high"])
    byId(name).addEventListener("input", () => { view[name] = Number(byId(name).value); redraw(); });
  byId("class").addEventListener("change", () => { view.label = Number(byId("class").value); redraw(); });
  document.addEventListener("keydown", (event) => {
    if (event.target.matches("input, select, summary")) return;
    const number = Number(event.key) - 1;
    if (radios[number]) { radios[number].checked = true; view.image = number; }
    else if (event.key === " ") { event.preventDefault(); view.outlines = !view.outlines; }
    else if (event.key === "x") view.cross = !view.cross;
    else return;
    redraw();
  });
  new ResizeObserver(redraw).observe(byId("planes"));
}

async function open() {
  for (const one of [...scene.images, ...scene.maps]) {
    one.data = await unpacked(one.voxels);
    delete one.voxels;
  }
  view.image = Math.max(0, scene.images.findIndex((one) => one.chosen));
  view.at = fullest();
  connect();
  draw();
  document.body.dataset.ready = "yes";
}

open().catch((error) => {
  byId("here").textContent = `This browser cannot show the page: ${error.message}`;
  byId("here").className = "failed";
});
