// What every program here shares: its parameters are one argument, JSON; so is what it prints.

export const parameters = JSON.parse(process.argv[2]);

export function report(result) {
  process.stdout.write(JSON.stringify(result));
}

// Read pieces of text to their end, or to the error that ends them. The error is described by the
// names of its classes, its own first.
export async function attempt(texts) {
  const result = { text: "", error: null };
  try {
    for await (const text of texts) result.text += text;
  } catch (error) {
    result.error = { classes: classesOf(error), message: String(error.message) };
  }
  return result;
}

function classesOf(error) {
  const names = [];
  for (let type = error; type !== Object.prototype; type = Object.getPrototypeOf(type)) {
    if (Object.hasOwn(type, "constructor")) names.push(type.constructor.name);
  }
  return names;
}
