// How each route is asked, and where the text of its events is.

const chat = (prompt) => ({ messages: [{ role: "user", content: prompt }] });

export const ROUTES = {
  "/v1/chat/completions": {
    ask: (prompt, tokens) => ({ ...chat(prompt), max_tokens: tokens }),
    text: (data) => joined(data.choices, (choice) => choice.delta?.content),
  },
  "/v1/completions": {
    ask: (prompt, tokens) => ({ prompt, max_tokens: tokens }),
    text: (data) => joined(data.choices, (choice) => choice.text),
  },
  "/v1/responses": {
    ask: (prompt, tokens) => ({ input: prompt, max_output_tokens: tokens }),
    text: (data, name) =>
      (name ?? data.type) === "response.output_text.delta" ? data.delta : "",
  },
  "/v1/messages": {
    ask: (prompt, tokens) => ({ ...chat(prompt), max_tokens: tokens }),
    text: (data, name) => (name === "content_block_delta" ? data.delta?.text : ""),
  },
  "/api/chat": {
    ask: (prompt, tokens) => ({ ...chat(prompt), options: { num_predict: tokens } }),
    text: (data) => data.message?.content,
  },
  "/api/generate": {
    ask: (prompt, tokens) => ({ prompt, options: { num_predict: tokens } }),
    text: (data) => data.response,
  },
  "/completion": {
    ask: (prompt, tokens) => ({ prompt, n_predict: tokens }),
    text: (data) => data.content,
  },
};

/** The body of a call. An empty model is left to the engine. */
export function bodyFor(path, { prompt, tokens, model }) {
  const body = ROUTES[path].ask(prompt, tokens);
  return model ? { model, ...body } : body;
}

/** The text that an event carries, "" for those that carry none, and for what is no JSON. */
export function textOf(path, name, data) {
  let decoded;
  try {
    decoded = JSON.parse(data);
  } catch {
    return ""; // [DONE]
  }
  const text = decoded && ROUTES[path]?.text(decoded, name);
  return typeof text === "string" ? text : "";
}

function joined(choices, text) {
  return (choices ?? []).map((choice) => text(choice) ?? "").join("");
}
