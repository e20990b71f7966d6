// Shows, for the token that is pointed at, how likely it was and what else might have been.

/** Makes the tooltip answer to mouse, touch and arrow keys in `log`, whose tokens are elements of class "token". */
export function explainTokens(log, tip) {
  let shown = null;

  function show(token) {
    shown?.classList.remove("shown");
    shown = token;
    tip.hidden = token === null;
    if (token === null) return;
    token.classList.add("shown");
    tip.replaceChildren(...token.logprobs.map(explanation));
    place(tip, token.getClientRects()[0] ?? token.getBoundingClientRect());
  }

  log.addEventListener("pointerover", (event) => show(event.target.closest(".token")));
  log.addEventListener("pointerleave", () => show(null));
  log.addEventListener("click", (event) => show(event.target.closest(".token")));
  log.addEventListener("scroll", () => show(null));
  log.addEventListener("focusout", () => show(null));
  log.addEventListener("keydown", (event) => {
    if (event.key === "Escape") show(null);
    const step = { ArrowRight: 1, ArrowLeft: -1 }[event.key];
    const text = event.target.closest(".text");
    if (step === undefined || text === null) return;
    event.preventDefault();
    const tokens = [...text.querySelectorAll(".token")];
    const next = tokens[tokens.indexOf(shown) + step];
    if (next) show(next);
  });
}

/** How likely a token was, between 0 and 1; the server sends null where it cannot say. */
export function probability(entry) {
  return entry.logprob === null ? 0 : Math.exp(entry.logprob);
}

function explanation(entry) {
  const table = document.createElement("table");
  const caption = table.createCaption();
  caption.append(code(entry.token), ` ${percent(entry)}`);
  for (const other of entry.top_logprobs) {
    const row = table.insertRow();
    row.insertCell().append(code(other.token));
    row.insertCell().append(percent(other));
    const meter = document.createElement("meter");
    meter.value = probability(other);
    row.insertCell().append(meter);
    if (other.token === entry.token) row.classList.add("chosen");
  }
  return table;
}

/** A token with its spaces and line ends to be seen. */
function code(token) {
  const element = document.createElement("code");
  element.textContent = token === "" ? "(empty)" : token.replaceAll(" ", "␣").replaceAll("\n", "↵").replaceAll("\t", "⇥");
  return element;
}

function percent(entry) {
  return entry.logprob === null ? "?" : `${(100 * probability(entry)).toFixed(1)} %`;
}

/** Puts the tooltip under a token, or above it where there is no room, within the window. */
function place(tip, box) {
  const left = Math.min(box.left, window.innerWidth - tip.offsetWidth - 8);
  const below = box.bottom + 6;
  const fits = below + tip.offsetHeight < window.innerHeight;
  tip.style.left = `${Math.max(8, left)}px`;
  tip.style.top = `${fits ? below : Math.max(8, box.top - tip.offsetHeight - 6)}px`;
}
