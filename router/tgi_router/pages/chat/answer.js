// A message as it stands in the log, and an answer as it grows. Texts are set as text, never as HTML.

import { probability } from "./tokens.js";

export function showMessage(log, role, text) {
  const message = element(log, "article", `message ${role}`);
  element(message, "h2", "", role === "user" ? "You" : "Model");
  const content = element(message, "div", "text", text);
  message.scrollIntoView({ block: "nearest" });
  return { message, content };
}

export function showError(log, text) {
  const error = element(log, "p", "error", text);
  error.setAttribute("role", "alert");
  error.scrollIntoView({ block: "nearest" });
}

export class Answer {
  constructor(log) {
    this.text = "";
    this._log = log;
    ({ message: this._message, content: this._content } = showMessage(log, "assistant", ""));
    this._content.tabIndex = 0;
    this._content.setAttribute("aria-label", "Answer: its tokens by the arrow keys");
    this._reasoning = null;
    this._logprobs = [];
  }

  /** Adds what a chunk of the stream brings. */
  push(choice) {
    const atEnd = this._log.scrollHeight - this._log.scrollTop - this._log.clientHeight < 40;
    const { content, reasoning_content: reasoning } = choice.delta;
    this._logprobs.push(...(choice.logprobs?.content ?? []));
    if (reasoning) this._append(this._reasoningText(), reasoning);
    if (content) {
      this.text += content;
      this._append(this._content, content);
    }
    if (choice.finish_reason === "length") this.note("Ended at the most tokens allowed.");
    if (atEnd) this._log.scrollTop = this._log.scrollHeight;
  }

  /** A remark under the answer. */
  note(text) {
    element(this._message, "p", "note", text);
  }

  get isEmpty() {
    return this._content.childNodes.length === 0 && this._reasoning === null;
  }

  remove() {
    this._message.remove();
  }

  /** Adds text that one or several tokens made; some tokens make none, and count for the next that does. */
  _append(parent, text) {
    if (this._logprobs.length === 0) {
      parent.append(text);
      return;
    }
    const token = element(parent, "span", "token", text);
    token.logprobs = this._logprobs;
    this._logprobs = [];
    token.style.setProperty("--p", Math.min(...token.logprobs.map(probability)).toFixed(3));
  }

  _reasoningText() {
    if (this._reasoning === null) {
      const details = document.createElement("details");
      element(details, "summary", "", "Reasoning");
      this._reasoning = element(details, "div", "text");
      this._content.before(details);
    }
    return this._reasoning;
  }
}

function element(parent, tag, className = "", text = "") {
  const made = document.createElement(tag);
  if (className) made.className = className;
  made.textContent = text;
  parent.append(made);
  return made;
}
