// Numbers and names as a person reads them.

export const NONE = "–";

const SPACE = "\u00a0"; // a number and its unit stay on one line

const whole = new Intl.NumberFormat("en", { maximumFractionDigits: 0 });
const tenths = new Intl.NumberFormat("en", { minimumFractionDigits: 1, maximumFractionDigits: 1 });
const hundredths = new Intl.NumberFormat("en", {
  minimumFractionDigits: 2,
  maximumFractionDigits: 2,
});

export function count(number) {
  return number == null ? NONE : whole.format(number);
}

export function counted(number, one, many = `${one}s`) {
  return `${count(number)} ${number === 1 ? one : many}`;
}

export function rate(perSecond) {
  if (perSecond == null) return NONE;
  return (perSecond < 100 ? tenths : whole).format(perSecond);
}

export function duration(seconds) {
  if (seconds == null) return NONE;
  const milliseconds = seconds * 1000;
  if (milliseconds < 10) return `${tenths.format(milliseconds)}${SPACE}ms`;
  if (seconds < 1) return `${whole.format(milliseconds)}${SPACE}ms`;
  if (seconds < 10) return `${hundredths.format(seconds)}${SPACE}s`;
  return `${tenths.format(seconds)}${SPACE}s`;
}

export function share(fraction) {
  return fraction == null ? NONE : `${whole.format(fraction * 100)}%`;
}

export function size(bytes) {
  if (bytes == null) return NONE;
  if (bytes < 1024) return `${whole.format(bytes)}${SPACE}B`;
  if (bytes < 1024 ** 2) return `${tenths.format(bytes / 1024)}${SPACE}KiB`;
  return `${tenths.format(bytes / 1024 ** 2)}${SPACE}MiB`;
}

/** Enough of an id to tell it from others: in a cluster the same request begins all of its ids. */
export function shortId(id) {
  return `gen_${shortName(id.split("_").at(-1))}`;
}

/** The same for the name of a node. */
export function shortName(name) {
  return name.slice(0, 8);
}

export function median(numbers) {
  if (numbers.length === 0) return null;
  const sorted = numbers.toSorted((one, other) => one - other);
  return sorted[Math.floor((sorted.length - 1) / 2)];
}
