// Signs in and calls the API. The tokens live in this module and nowhere else: no
// other script can read them, and a reload forgets them.

let pair = null;

const answer = document.querySelector("#answer");
const who = document.querySelector("#who");
const login = document.querySelector("#login");

async function send(method, path, { body = null, token = null } = {}) {
  const headers = {};
  if (body) headers["Content-Type"] = "application/json";
  if (token) headers.Authorization = `Bearer ${token}`;
  const response = await fetch(path, {
    method,
    headers,
    body: body && JSON.stringify(body),
    credentials: "omit",
  });
  const text = await response.text();
  let data = null;
  try {
    data = text && JSON.parse(text);
  } catch {
    // Not every answer is JSON.
  }
  return { response, text, data };
}

function show(method, path, { response, text, data }) {
  const challenge = response.headers.get("WWW-Authenticate");
  answer.textContent = [
    `${method} ${path}`,
    `${response.status} ${response.statusText}`,
    ...(challenge ? [`WWW-Authenticate: ${challenge}`] : []),
    "",
    data ? JSON.stringify(data, null, 2) : text,
  ].join("\n");
}

function keep(next, name = null) {
  pair = next;
  if (name) who.textContent = `${name} is signed in.`;
  if (!pair) who.textContent = "Nobody is signed in.";
}

// What a client does, in four lines: 401 with error="invalid_token" and another code
// than session_ended means refresh once and repeat once.
async function call(method, path) {
  let result = await send(method, path, { token: pair?.access_token });
  const challenge = result.response.headers.get("WWW-Authenticate") ?? "";
  const worthIt = challenge.includes('error="invalid_token"') && result.data?.code !== "session_ended";
  if (pair && result.response.status === 401 && worthIt && (await refresh())) {
    result = await send(method, path, { token: pair.access_token });
  }
  show(method, path, result);
}

const refreshButton = document.querySelector("#refresh");

async function refresh() {
  const path = refreshButton.dataset.path;
  const result = await send("POST", path, { body: { refresh_token: pair?.refresh_token ?? "" } });
  show("POST", path, result);
  if (result.response.ok) keep(result.data);
  else if (result.response.status === 401) keep(null);
  return result.response.ok;
}

login.addEventListener("submit", async (event) => {
  event.preventDefault();
  const fields = new FormData(login);
  const path = login.getAttribute("action");
  const body = { username: fields.get("username"), password: fields.get("password"), device: "page" };
  const result = await send("POST", path, { body });
  show("POST", path, result);
  if (result.response.ok) keep(result.data, body.username);
  login.elements.password.value = "";
});

for (const button of document.querySelectorAll("button[data-method]")) {
  button.addEventListener("click", () => call(button.dataset.method, button.dataset.path));
}
refreshButton.addEventListener("click", refresh);
document.querySelector("#logout").addEventListener("click", async (event) => {
  const path = event.target.dataset.path;
  const result = await send("POST", path, { body: { refresh_token: pair?.refresh_token ?? "" } });
  show("POST", path, result);
  keep(null);
});
