// From the settings to a request, and to the same request as a command line.

const NUMBERS = ["temperature", "top_p", "max_tokens", "seed"];

/** The body of a request that answers `messages`. A field left empty is not sent: the server's default holds. */
export function requestBody(form, messages, topLogprobs) {
  const { system, probabilities } = form.elements;
  const body = { model: "tgi", messages: [...messages], stream: true };
  if (system.value.trim()) body.messages.unshift({ role: "system", content: system.value });
  for (const name of NUMBERS) {
    const { value, valueAsNumber } = form.elements[name];
    if (value !== "") body[name] = valueAsNumber;
  }
  if (probabilities.checked) {
    body.logprobs = true;
    if (topLogprobs > 0) body.top_logprobs = topLogprobs;
  }
  return body;
}

/** The command line that sends a body. The key stays out of it: a shell would keep it. */
export function curlCommand(url, body, withKey) {
  const headers = ["-H 'Content-Type: application/json'"];
  if (withKey) headers.push('-H "Authorization: Bearer $API_KEY"');
  const json = JSON.stringify(body, null, 2);
  return [`curl -N ${quoted(url)}`, ...headers, `-d ${quoted(json)}`].join(" \\\n  ");
}

/** A text as one word of a POSIX shell. */
function quoted(text) {
  return `'${text.replaceAll("'", "'\\''")}'`;
}
