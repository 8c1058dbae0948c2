// OpenAI's responses in the background: left, taken up again at a number, and stopped.

import { parameters, report } from "./program.mjs";
import { deltas, openai } from "./sdks.mjs";

const { url, headers, prompt, events } = parameters;
const client = openai(url, headers);
const question = { model: "m", input: prompt, background: true };

async function leaveAndComeBack() {
  const stream = await client.responses.create({ ...question, stream: true });
  const read = [];
  for await (const event of stream) {
    if (read.push(event) === events) break;
  }
  const { id } = read[0].response;
  const rest = await client.responses.retrieve(id, {
    stream: true,
    starting_after: read.at(-1).sequence_number,
  });
  for await (const event of rest) read.push(event);
  const whole = await client.responses.retrieve(id);
  let text = "";
  for await (const delta of deltas(read)) text += delta;
  return {
    numbers: read.map((event) => event.sequence_number),
    text,
    status: whole.status,
    output: whole.output_text,
  };
}

async function stop() {
  const begun = await client.responses.create(question);
  const stopped = await client.responses.cancel(begun.id);
  const shown = await client.responses.retrieve(begun.id);
  return [begun.status, stopped.status, shown.status];
}

report(await { leaveAndComeBack, stop }[parameters.scene]());
