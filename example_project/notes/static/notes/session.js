// A login session in cookies, as a page sees it: it reads no token, and has none to lose.
//
// Unsafe calls carry Django's CSRF token. A 401 that a refresh can heal is healed once, by
// one tab for all: the others wait for its lock and then just repeat their call.

const REFRESHED = "jwt_auth.refreshed";
const NAME = "jwt_auth.name";

let base = "";
let csrfToken = null;

/** Say where `jwt_auth.urls.browser` is included. */
export function configure(url) {
  base = url;
}

async function send(method, path, body = null) {
  const headers = {};
  if (body) headers["Content-Type"] = "application/json";
  if (method !== "GET") headers["X-CSRFToken"] = await token();
  const response = await fetch(path, { method, headers, body: body && JSON.stringify(body) });
  const text = await response.text();
  let data = null;
  try {
    data = text && JSON.parse(text);
  } catch {
    // Not every answer is JSON.
  }
  if (data?.csrf_token) csrfToken = data.csrf_token;
  return { response, text, data };
}

async function token() {
  if (csrfToken === null) {
    const response = await fetch(`${base}csrf/`);
    csrfToken = (await response.json()).csrf_token;
  }
  return csrfToken;
}

async function sendWithToken(method, path, body) {
  const result = await send(method, path, body);
  if (result.data?.code !== "csrf_failed") return result;
  // Another tab has signed in, which makes a new CSRF token.
  csrfToken = null;
  return send(method, path, body);
}

/** Trade the refresh cookie, unless another tab has done so since *since*. */
async function refreshOnce(since) {
  return navigator.locks.request("jwt_auth.refresh", async () => {
    const refreshed = Number(localStorage.getItem(REFRESHED));
    // One in the future was written by a clock that has been set back.
    if (refreshed >= since && refreshed <= Date.now()) return true;
    return (await refresh()).response.ok;
  });
}

export async function refresh() {
  const result = await sendWithToken("POST", `${base}refresh/`, null);
  if (result.response.ok) localStorage.setItem(REFRESHED, Date.now());
  else if (result.response.status === 401) localStorage.removeItem(NAME);
  return result;
}

/** Call the API. What a client does: 401 with error="invalid_token" and another code than
    session_ended, or no token at all where somebody is signed in, means refresh once and
    repeat once. */
export async function call(method, path, body = null) {
  const since = Date.now();
  const result = await sendWithToken(method, path, body);
  const worthIt = ["token_not_valid", "token_expired", "session_ended", "not_authenticated", undefined];
  const code = result.data?.code;
  if (result.response.status !== 401 || name() === null || !worthIt.includes(code)) return result;
  if (result.data?.code === "session_ended") {
    localStorage.removeItem(NAME);
    return result;
  }
  return (await refreshOnce(since)) ? sendWithToken(method, path, body) : result;
}

/** Refresh at the start of a page that was sent without an access token. */
export async function resume() {
  // Another tab may have refreshed since this page was asked for.
  if (name() !== null) await refreshOnce(performance.timeOrigin);
}

export async function signIn(username, password) {
  const body = { username, password, device: "page" };
  const result = await sendWithToken("POST", `${base}login/`, body);
  if (result.response.ok) localStorage.setItem(NAME, username);
  return result;
}

export async function signOut() {
  const result = await sendWithToken("POST", `${base}logout/`, null);
  // Otherwise the cookies are still there, and the page should say so.
  if (result.response.ok) localStorage.removeItem(NAME);
  return result;
}

/** Who has signed in here; a hint for the page and no more. */
export function name() {
  return localStorage.getItem(NAME);
}
