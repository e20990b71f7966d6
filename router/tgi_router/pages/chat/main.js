// The page: what is said, what is being answered, and what the buttons do.

import { Answer, showError, showMessage } from "./answer.js";
import { CHAT_URL, fetchInfo, streamChat } from "./api.js";
import { curlCommand, requestBody } from "./settings.js";
import { explainTokens } from "./tokens.js";

const MOST_ALTERNATIVES = 5;

const $ = (id) => document.getElementById(id);
const log = $("log");
const text = $("text");
const settings = $("settings");

let messages = [];
let topLogprobs = 0;
/** Ends the answer that is being streamed; null when none is. */
let running = null;

async function answer() {
  if (running || !settings.reportValidity()) return;
  running = new AbortController();
  showState("Answering…");
  const conversation = messages;
  const shown = new Answer(log);
  let outcome = "Answered.";
  try {
    const body = requestBody(settings, conversation, topLogprobs);
    for await (const chunk of streamChat(body, settings.elements.key.value, running.signal)) {
      for (const choice of chunk.choices) shown.push(choice);
    }
  } catch (error) {
    if (running.signal.aborted) {
      outcome = "Stopped.";
      shown.note("Stopped.");
    } else {
      outcome = "";
      if (shown.isEmpty) shown.remove();
      showError(log, error instanceof TypeError ? "The server cannot be reached." : error.message);
    }
  }
  running = null;
  if (shown.text) conversation.push({ role: "assistant", content: shown.text });
  showState(outcome);
}

function send() {
  const content = text.value;
  if (running || !content.trim() || !settings.reportValidity()) return;
  text.value = "";
  fitText();
  messages.push({ role: "user", content });
  showMessage(log, "user", content);
  answer();
}

/** Answers the last message of the user again. */
function again() {
  if (messages.at(-1)?.role === "assistant") messages.pop();
  while (log.lastElementChild && !log.lastElementChild.matches(".user")) log.lastElementChild.remove();
  answer();
}

function clear() {
  running?.abort();
  messages = [];
  log.replaceChildren();
  showState("");
  text.focus();
}

async function copyCurl() {
  const draft = text.value.trim() ? [{ role: "user", content: text.value }] : [];
  const body = requestBody(settings, [...messages, ...draft], topLogprobs);
  const command = curlCommand(CHAT_URL, body, settings.elements.key.value !== "");
  try {
    await navigator.clipboard.writeText(command);
    showState("Copied.");
  } catch {
    // Browsers give no clipboard to a page that came over plain HTTP from another machine.
    const field = $("command").querySelector("textarea");
    field.value = command;
    $("command").showModal();
    field.select();
  }
}

function showState(outcome) {
  const busy = running !== null;
  $("send").hidden = busy;
  $("stop").hidden = !busy;
  $("again").disabled = busy || messages.length === 0;
  log.setAttribute("aria-busy", String(busy));
  $("status").textContent = outcome;
}

/** Lets the field grow with its text; the style sheet says how far. */
function fitText() {
  text.style.height = "auto";
  text.style.height = `${text.scrollHeight + 2}px`;
}

$("composer").addEventListener("submit", (event) => {
  event.preventDefault();
  send();
});
text.addEventListener("keydown", (event) => {
  // While a word is being composed, Enter accepts it.
  if (event.key !== "Enter" || event.shiftKey || event.isComposing) return;
  event.preventDefault();
  send();
});
text.addEventListener("input", fitText);
settings.addEventListener("submit", (event) => event.preventDefault());
$("stop").addEventListener("click", () => running?.abort());
$("again").addEventListener("click", again);
$("clear").addEventListener("click", clear);
$("curl").addEventListener("click", copyCurl);
explainTokens(log, $("tip"));
if (window.matchMedia("(max-width: 50rem)").matches) $("panel").open = false;

try {
  const info = await fetchInfo();
  $("model").textContent = info.model_id;
  topLogprobs = Math.min(MOST_ALTERNATIVES, info.max_top_n_tokens);
} catch (error) {
  showError(log, `The server does not say what it serves. ${error.message}`);
}
