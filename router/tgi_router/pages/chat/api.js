// The server's API: what is served, and a chat as a stream of chunks.

export const CHAT_URL = new URL("v1/chat/completions", document.baseURI).href;

export async function fetchInfo() {
  const response = await fetch(new URL("info", document.baseURI));
  if (!response.ok) throw new Error(await failure(response));
  return response.json();
}

export function chatHeaders(key) {
  const headers = { "Content-Type": "application/json" };
  if (key) headers.Authorization = `Bearer ${key}`;
  return headers;
}

/** Yields the chunks of a streamed answer; throws an Error whose message is the server's. */
export async function* streamChat(body, key, signal) {
  const response = await fetch(CHAT_URL, {
    method: "POST",
    headers: chatHeaders(key),
    body: JSON.stringify(body),
    signal,
  });
  if (!response.ok) throw new Error(await failure(response));
  for await (const data of eventData(response.body)) {
    if (data === "[DONE]") return;
    const chunk = JSON.parse(data);
    if (chunk.error) throw new Error(chunk.error.message);
    yield chunk;
  }
  throw new Error("The connection ended before the answer did.");
}

/** The data of each server-sent event; comments are passed over. */
async function* eventData(stream) {
  const reader = stream.pipeThrough(new TextDecoderStream()).getReader();
  let rest = "";
  for (;;) {
    const { value, done } = await reader.read();
    if (done) return;
    const lines = (rest + value).split("\n");
    rest = lines.pop();
    for (const line of lines) {
      if (line.startsWith("data: ")) yield line.slice("data: ".length);
    }
  }
}

/** What went wrong, in the server's words where there are any. */
async function failure(response) {
  const text = await response.text();
  let message = text;
  try {
    const { error } = JSON.parse(text);
    message = error.message ?? error;
  } catch {
    // Not JSON: from something between this page and the server.
  }
  return `${response.status}: ${message || response.statusText}`;
}
