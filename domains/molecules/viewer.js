// Turns molecules in the browser: drag to rotate, wheel to zoom, arrow keys, double click to put it back.
// Each <figure class="mol3d"> has a canvas and its molecule as JSON: {atoms: [[element, x, y, z]], bonds: [[i, j, order]], around}.
// around, {atoms: [[element, x, y, z]], bonds: [[i, j]]}, is a pocket: thin sticks, and small balls without bonds.
(() => {
  const STYLE = { // radius in Å of what is drawn, colour
    H: [0.24, "#f4f4f4"], C: [0.38, "#5b626c"], N: [0.38, "#3b62d8"], O: [0.38, "#d63a35"], F: [0.34, "#5fb04a"],
  };
  const OTHER = [0.4, "#b37bc0"];
  const WALL = { N: "#8fa6ea", O: "#e89a97", S: "#d9c25f" }; // colours of a pocket; carbon and others are grey

  function turn(r, dx, dy) { // rotation matrix r (rows), turned by dx about y and dy about x of the screen
    const [a, b, c, d] = [Math.cos(dx), Math.sin(dx), Math.cos(dy), Math.sin(dy)];
    const y = [[a, 0, b], [0, 1, 0], [-b, 0, a]], x = [[1, 0, 0], [0, c, -d], [0, d, c]];
    const times = (m, n) => m.map(row => n[0].map((_, j) => row.reduce((s, v, k) => s + v * n[k][j], 0)));
    return times(x, times(y, r));
  }

  function ball(ctx, x, y, r, colour) {
    const light = ctx.createRadialGradient(x - r / 3, y - r / 3, r / 10, x, y, r);
    light.addColorStop(0, "#ffffff");
    light.addColorStop(0.45, colour);
    light.addColorStop(1, "#20242b");
    ctx.fillStyle = light;
    ctx.beginPath();
    ctx.arc(x, y, r, 0, 2 * Math.PI);
    ctx.fill();
  }

  function stick(ctx, p, q, order, scale) { // a bond as parallel lines, grey with a dark edge
    const length = Math.hypot(q.x - p.x, q.y - p.y) || 1;
    const [nx, ny] = [(p.y - q.y) / length, (q.x - p.x) / length];
    const width = scale * (order > 1 ? 0.1 : 0.16), gap = scale * 0.19;
    for (let k = 0; k < order; k++) {
      const o = (k - (order - 1) / 2) * gap;
      for (const [w, colour] of [[width, "#4a525d"], [width * 0.6, "#b9c1cb"]]) {
        ctx.strokeStyle = colour;
        ctx.lineWidth = w;
        ctx.beginPath();
        ctx.moveTo(p.x + nx * o, p.y + ny * o);
        ctx.lineTo(q.x + nx * o, q.y + ny * o);
        ctx.stroke();
      }
    }
  }

  function thin(ctx, p, q, colours, scale) { // a bond of the pocket: two halves in the colours of its atoms
    const middle = { x: (p.x + q.x) / 2, y: (p.y + q.y) / 2 };
    ctx.lineWidth = scale * 0.07;
    [[p, colours[0]], [q, colours[1]]].forEach(([end, colour]) => {
      ctx.strokeStyle = colour;
      ctx.beginPath();
      ctx.moveTo(end.x, end.y);
      ctx.lineTo(middle.x, middle.y);
      ctx.stroke();
    });
  }

  function show(figure) {
    const canvas = figure.querySelector("canvas"), mol = JSON.parse(figure.querySelector("script").textContent);
    const ctx = canvas.getContext("2d"), ratio = window.devicePixelRatio || 1;
    const side = canvas.width;
    canvas.style.width = canvas.style.height = side + "px";
    canvas.width = canvas.height = side * ratio;
    const mean = [1, 2, 3].map(k => mol.atoms.reduce((s, a) => s + a[k], 0) / Math.max(1, mol.atoms.length));
    const shift = a => [a[1] - mean[0], a[2] - mean[1], a[3] - mean[2]];
    const centred = mol.atoms.map(shift), around = mol.around || { atoms: [], bonds: [] };
    const pocket = around.atoms.map(shift), bonded = new Set(around.bonds.flat());
    const reach = Math.max(1.5, ...centred.map(v => Math.hypot(...v))) + (pocket.length ? 2.5 : 0.6);
    const start = turn([[1, 0, 0], [0, 1, 0], [0, 0, 1]], 0.5, 0.35);
    let rotation = start, zoom = 1, grip = null;

    function draw() {
      const scale = zoom * side * ratio / (2 * reach), half = side * ratio / 2;
      const seen = v => {
        const [x, y, z] = rotation.map(row => row[0] * v[0] + row[1] * v[1] + row[2] * v[2]);
        const near = 1 / (1 - z / (6 * reach)); // a weak perspective
        return { x: half + x * scale * near, y: half - y * scale * near, z, near };
      };
      const at = centred.map(seen), walls = pocket.map(seen);
      ctx.clearRect(0, 0, canvas.width, canvas.height);
      const parts = mol.bonds.map(([i, j, order]) => ({
        z: (at[i].z + at[j].z) / 2, draw: () => stick(ctx, at[i], at[j], order, scale * (at[i].near + at[j].near) / 2),
      })).concat(mol.atoms.map((a, i) => {
        const [radius, colour] = STYLE[a[0]] || OTHER;
        return { z: at[i].z, draw: () => ball(ctx, at[i].x, at[i].y, radius * scale * at[i].near, colour) };
      }));
      around.bonds.forEach(([i, j]) => {
        const colours = [i, j].map(k => WALL[around.atoms[k][0]] || "#a9b1bb");
        parts.push({ z: (walls[i].z + walls[j].z) / 2, draw: () => thin(ctx, walls[i], walls[j], colours, scale) });
      });
      walls.filter((_, i) => !bonded.has(i)).forEach(p => { // ions
        parts.push({ z: p.z, draw: () => ball(ctx, p.x, p.y, 0.25 * scale, OTHER[1]) });
      });
      parts.sort((a, b) => a.z - b.z).forEach(part => part.draw());
    }

    const by = (dx, dy) => { rotation = turn(rotation, dx, dy); draw(); };
    canvas.addEventListener("pointerdown", e => { grip = [e.clientX, e.clientY]; canvas.setPointerCapture(e.pointerId); });
    canvas.addEventListener("pointermove", e => {
      if (!grip) return;
      by((e.clientX - grip[0]) / 80, (e.clientY - grip[1]) / 80);
      grip = [e.clientX, e.clientY];
    });
    for (const name of ["pointerup", "pointercancel"]) canvas.addEventListener(name, () => { grip = null; });
    canvas.addEventListener("wheel", e => {
      e.preventDefault();
      zoom = Math.min(5, Math.max(0.3, zoom * Math.exp(-e.deltaY / 600)));
      draw();
    }, { passive: false });
    canvas.addEventListener("dblclick", () => { rotation = start; zoom = 1; draw(); });
    canvas.addEventListener("keydown", e => {
      const step = { ArrowLeft: [-0.15, 0], ArrowRight: [0.15, 0], ArrowUp: [0, -0.15], ArrowDown: [0, 0.15] }[e.key];
      if (step) { e.preventDefault(); by(...step); }
    });
    draw();
    figure.dataset.shown = "yes";
  }

  document.querySelectorAll("figure.mol3d:not([data-shown])").forEach(show);
})();
