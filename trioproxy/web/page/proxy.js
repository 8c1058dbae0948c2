// What is asked of the proxy, and in whose name.

const KEY = "trioproxy.key";

/** The proxy, or the engine behind it, said no. */
export class Refusal extends Error {
  constructor(status, message) {
    super(message);
    this.status = status;
  }

  /** Whether the same may be answered otherwise a moment later. */
  get mayPass() {
    return this.status === 429 || this.status >= 500;
  }
}

export function apiKey() {
  return sessionStorage.getItem(KEY) ?? "";
}

export function useApiKey(key) {
  if (key) sessionStorage.setItem(KEY, key);
  else sessionStorage.removeItem(KEY);
}

/** A page can send no headers with a WebSocket, so the key goes as a subprotocol: a token (RFC 9110). */
export function protocols(key) {
  return key ? ["trioproxy.v1", `trioproxy.key.${key}`] : ["trioproxy.v1"];
}

export function canBeAProtocol(key) {
  return /^[!#$%&'*+.^_`|~0-9A-Za-z-]*$/.test(key);
}

/** The response, once its head is there. Throws a `Refusal` for one that is none of success. */
export async function ask(path, { method = "GET", headers = {}, body, signal } = {}) {
  const key = apiKey();
  const response = await fetch(path, {
    method,
    headers: key ? { ...headers, Authorization: `Bearer ${key}` } : headers,
    body: body && JSON.stringify(body),
    signal,
    cache: "no-store",
  });
  if (!response.ok) throw new Refusal(response.status, await messageOf(response));
  return response;
}

export async function askJson(path, options) {
  return (await ask(path, options)).json();
}

export function generationPath(id) {
  return `/v1/generations/${encodeURIComponent(id)}`;
}

export function stop(id) {
  return askJson(generationPath(id), { method: "DELETE" });
}

/** Resolves after so many seconds; rejects when the signal says that nobody waits any more. */
export function sleep(seconds, signal) {
  return new Promise((resolve, reject) => {
    signal.throwIfAborted();
    const leave = () => {
      clearTimeout(timer);
      reject(signal.reason);
    };
    const timer = setTimeout(() => {
      signal.removeEventListener("abort", leave);
      resolve();
    }, seconds * 1000);
    signal.addEventListener("abort", leave, { once: true });
  });
}

async function messageOf(response) {
  const text = await response.text();
  try {
    const { error } = JSON.parse(text);
    return error.message ?? String(error); // Ollama's errors are strings
  } catch {
    return text || `HTTP ${response.status}`;
  }
}
