"use strict";
(() => {
  const base = `/${location.pathname.split("/")[1]}/`;  // with the token
  const state = { screens: [], ratings: {}, choices: [], shown: -1 };
  let screen = 0, here = 0, large = false, lost = false, queue = Promise.resolve();
  const pending = new Map();  // ratings on their way

  const make = (tag, about = {}, ...children) => {
    const element = document.createElement(tag);
    for (const [name, value] of Object.entries(about)) {
      if (name === "click") element.addEventListener("click", value);
      else if (name in element) element[name] = value;
      else element.setAttribute(name, value);
    }
    element.append(...children);
    return element;
  };
  const key = (text) => make("kbd", {}, text);

  const title = make("h1"), counted = make("span"), progress = make("progress", { max: 1, value: 0 });
  const undo = make("button", { type: "button", click: () => takeBack() }, "Undo ", key("U"));
  const finish = make("button", { type: "button", click: () => end() }, "Finish");
  const notice = make("p", { className: "notice", hidden: true, role: "status" });
  const heading = make("h2"), place = make("span", { className: "note" });
  const before = make("button", { type: "button", click: () => turn(-1) }, "‹ Back ", key("["));
  const after = make("button", { type: "button", click: () => turn(1) }, "Next ", key("]"), " ›");
  const draws = make("div", { className: "draws" });
  const body = make("main", {}, notice,
    make("div", { className: "condition" }, heading, place, before, after), draws);
  const hints = make("footer");
  document.body.append(
    make("header", {}, make("div", { className: "line" }, title, counted, undo, finish), progress), body, hints);

  const shownDraws = () => (state.screens[screen] || { draws: [] }).draws;
  const rated = (draw) => draw in state.ratings;
  const all = () => state.screens.flatMap((each) => each.draws.map((card) => card.draw));

  const say = (text, wrong = false, ...more) => {
    notice.replaceChildren(text, ...more);
    notice.className = wrong ? "notice wrong" : "notice";
    notice.hidden = !text;
  };

  // Drawing

  const card = (each, index) => {
    const figure = make("figure", { className: "draw", tabIndex: -1 });
    figure.dataset.draw = each.draw;
    figure.addEventListener("click", () => select(index, false));
    if (state.pictures) {
      const image = make("img", { alt: each.text || `draw ${index + 1}`, loading: "eager" });
      image.addEventListener("click", () => zoom(!large || here !== index, index));
      image.addEventListener("error", () => { image.hidden = true; });
      image.src = `${base}picture/${each.draw}`;
      figure.append(image);
    }
    const about = make("div", { className: "about" });
    if (each.text) about.append(make("p", { className: state.pictures ? "text" : "text alone" }, each.text));
    if (state.views) {
      about.append(make("a", { href: `${base}view/${each.draw}`, target: "_blank", rel: "noopener" }, "turn in 3-D"));
    }
    if (about.childElementCount) figure.append(about);
    const choices = make("div", { className: "choices" });
    for (const [value, name] of state.choices) {
      const label = name === String(value) ? [key(name)] : [`${name} `, key(name[0].toUpperCase())];
      choices.append(make("button", {
        type: "button", className: name, title: name, "aria-pressed": "false",
        click: (event) => { event.stopPropagation(); here = index; rate(each.draw, value); },
      }, ...(name === String(value) ? [name] : label)));
      choices.lastChild.dataset.value = value;
    }
    figure.append(choices);
    return figure;
  };

  const draw = () => {
    title.textContent = document.title = state.title;
    draws.replaceChildren(...shownDraws().map(card));
    finish.hidden = !state.can_finish;
    const stars = state.scale === "stars";
    hints.replaceChildren(
      ...(stars ? [make("span", {}, key("1"), " to ", key("5"), " rate")]
        : [make("span", {}, key("K"), " keep"), make("span", {}, key("D"), " drop")]),
      make("span", {}, key("←"), " ", key("→"), " other draw"),
      make("span", {}, key("["), " ", key("]"), " other screen"),
      make("span", {}, key("Space"), " large picture"),
      make("span", {}, key("U"), " undo"),
      make("span", {}, key("N"), " next without a rating"),
      make("span", {}, key("Backspace"), " no rating"));
    const next = state.screens[screen + 1];  // loaded before it is needed
    if (next && state.pictures) for (const each of next.draws) new Image().src = `${base}picture/${each.draw}`;
    mark();
  };

  const mark = () => {
    const known = all(), count = known.filter(rated).length, many = state.screens.length;
    counted.textContent = `${count} of ${known.length} rated`;
    progress.max = known.length || 1;
    progress.value = count;
    const current = state.screens[screen];
    heading.textContent = current ? current.condition : "";
    place.textContent = many ? `screen ${screen + 1} of ${many}` : "";
    before.disabled = screen === 0;
    after.disabled = screen + 1 >= many;
    undo.disabled = state.finished;
    finish.disabled = state.finished;
    finish.classList.toggle("due", known.length > 0 && count === known.length);
    body.classList.toggle("large", large);
    [...draws.children].forEach((figure, index) => {
      const value = state.ratings[figure.dataset.draw];
      figure.classList.toggle("here", index === here);
      figure.classList.toggle("bad", state.scale === "keep" && value === 0);
      for (const button of figure.querySelectorAll(".choices button")) {
        button.setAttribute("aria-pressed", String(Number(button.dataset.value) === value));
        button.disabled = Boolean(state.finished);
      }
    });
    if (lost) return;
    if (state.finished) say("Finished. The ratings are written, and this tab may be closed.");
    else if (known.length && count === known.length) {
      say(state.can_finish ? "All draws are rated." : "All draws are rated. The run continues; the next draws appear here.",
        false, ...(state.can_finish ? [make("button", { type: "button", click: () => end() }, "Finish")] : []));
    } else if (!known.length) say("There is nothing to rate now. The next draws appear here.");
    else say("");
  };

  // Moving

  const select = (index, scroll = true) => {
    here = Math.max(0, Math.min(index, shownDraws().length - 1));
    mark();
    const figure = draws.children[here];
    if (scroll && figure) figure.scrollIntoView({ block: "nearest" });
  };
  const turn = (by, to = 0) => {
    const next = screen + by;
    if (next < 0 || next >= state.screens.length) return false;
    screen = next;
    here = to;
    draw();
    scrollTo(0, 0);
    return true;
  };
  const step = (by) => {
    const next = here + by;
    if (next >= 0 && next < shownDraws().length) select(next);
    else turn(by, by < 0 ? Math.max(0, (state.screens[screen - 1] || { draws: [] }).draws.length - 1) : 0);
  };
  const zoom = (on, index = here) => { large = on; select(index); };
  const goTo = (name) => {
    const found = state.screens.findIndex((each) => each.draws.some((card) => card.draw === name));
    if (found < 0) return;
    if (found !== screen) { screen = found; here = 0; draw(); }
    select(state.screens[found].draws.findIndex((card) => card.draw === name));
  };
  const nextUnrated = () => {
    const names = all(), from = names.indexOf((shownDraws()[here] || {}).draw);
    const order = [...names.slice(from + 1), ...names.slice(0, from + 1)];
    const next = order.find((name) => !rated(name));
    if (next !== undefined) goTo(next);
    else mark();
  };

  // Talking to graft

  const ask = async (name, given) => {
    const options = given === undefined ? {}
      : { method: "POST", headers: { "Content-Type": "application/json" }, body: JSON.stringify(given) };
    const answer = await fetch(base + name, { ...options, cache: "no-store" });
    const content = answer.headers.get("Content-Type") === "application/json" ? await answer.json() : {};
    if (!answer.ok) throw Object.assign(new Error("refused"), { sentence: content.error });
    return content;
  };
  const send = (name, given) => {  // one after the other, in the order of the keys
    queue = queue.then(async () => {
      try {
        return (await ask(name, given)).done;
      } catch (error) {
        failed(error);
        await load(true);
        return null;
      }
    });
    return queue;
  };
  const failed = (error) => {
    lost = true;
    if (!state.can_finish && !error.sentence) {
      return say("graft trains now, or has ended. All ratings are kept, and the next draws appear here.");
    }
    return say(error.sentence || "graft does not answer. All ratings before are kept: start the command again, and open the "
      + "address that it prints.", true);
  };

  const rate = (name, value) => {
    if (state.finished) return;
    const had = rated(name);
    if (value === null) delete state.ratings[name];
    else state.ratings[name] = value;
    pending.set(name, value);
    send("rate", { draw: name, rating: value }).then(() => pending.get(name) === value && pending.delete(name));
    if (value !== null && !had) nextUnrated();
    else mark();
  };
  const takeBack = async () => {
    const name = await send("undo", {});
    if (name) {
      await load(true);
      goTo(name);
    }
  };
  const end = async () => {
    if (!state.can_finish) return;
    if (await send("finish", {})) { state.finished = true; mark(); }
  };

  const load = async (quiet = false) => {
    try {
      const found = await ask("state");
      const fresh = found.shown !== state.shown;
      Object.assign(state, found);
      for (const [name, value] of pending) {
        if (value === null) delete state.ratings[name];
        else state.ratings[name] = value;
      }
      lost = false;
      if (fresh) {
        screen = here = 0;
        draw();
        const first = all().find((name) => !rated(name));
        if (first !== undefined) goTo(first);
      } else mark();
    } catch (error) {
      if (!quiet && !state.finished) failed(error);
    }
  };

  document.addEventListener("keydown", (event) => {
    if (event.ctrlKey || event.metaKey || event.altKey) return;
    const on = event.target instanceof HTMLElement ? event.target.tagName : "";
    if (on === "BUTTON" && (event.key === "Enter" || event.key === " ")) return;
    const current = shownDraws()[here], pressed = event.key.toLowerCase();
    const choice = state.choices.find(([value, name]) => pressed === String(value) || pressed === name[0]);
    const acts = {
      arrowright: () => step(1), arrowleft: () => step(-1), arrowdown: null, arrowup: null,
      "]": () => turn(1), "[": () => turn(-1), u: takeBack, n: nextUnrated,
      " ": () => zoom(!large), escape: () => zoom(false),
      backspace: () => current && rate(current.draw, null),
    };
    const act = choice && current ? () => rate(current.draw, choice[0]) : acts[pressed];
    if (!act) return;
    event.preventDefault();
    if (on === "BUTTON") event.target.blur();
    act();
  });

  load();
  setInterval(() => { if (!state.finished) queue.then(() => load()); }, 1000);
})();
