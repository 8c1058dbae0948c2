// One API of an official SDK, as its users call it: streams of text.

import Anthropic from "@anthropic-ai/sdk";
import OpenAI from "openai";

const MODEL = "m";

function openai(url, headers) {
  return new OpenAI({
    baseURL: `${url}/v1`,
    apiKey: "key",
    maxRetries: 0,
    defaultHeaders: headers,
  });
}

async function* completions(url, headers, prompt) {
  const client = openai(url, headers);
  const stream = await client.completions.create({ model: MODEL, prompt, stream: true });
  for await (const chunk of stream) yield chunk.choices[0].text;
}

async function* chat(url, headers, prompt) {
  const messages = [{ role: "user", content: prompt }];
  const client = openai(url, headers);
  const stream = await client.chat.completions.create({ model: MODEL, messages, stream: true });
  for await (const chunk of stream) yield chunk.choices[0].delta.content ?? "";
}

async function* responses(url, headers, prompt) {
  const client = openai(url, headers);
  const stream = await client.responses.create({ model: MODEL, input: prompt, stream: true });
  yield* deltas(stream);
}

export async function* deltas(stream) {
  for await (const event of stream) {
    if (event.type === "response.output_text.delta") yield event.delta;
  }
}

async function* messages(url, headers, prompt) {
  const client = new Anthropic({
    baseURL: url,
    apiKey: "key",
    maxRetries: 0,
    defaultHeaders: headers,
  });
  const stream = client.messages.stream({
    model: MODEL,
    max_tokens: 4096,
    messages: [{ role: "user", content: prompt }],
  });
  for await (const event of stream) {
    if (event.type === "content_block_delta") yield event.delta.text;
  }
  await stream.finalMessage();
}

export const APIS = { completions, chat, responses, messages };
export { openai };
