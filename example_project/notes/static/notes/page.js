// The page: a form, buttons, and the last answer. What a login session is, is in session.js.

import * as session from "./session.js";

const answer = document.querySelector("#answer");
const who = document.querySelector("#who");
const login = document.querySelector("#login");

session.configure(document.body.dataset.browser);

function show(method, path, { response, text, data }) {
  const challenge = response.headers.get("WWW-Authenticate");
  answer.textContent = [
    `${method} ${path}`,
    `${response.status} ${response.statusText}`,
    ...(challenge ? [`WWW-Authenticate: ${challenge}`] : []),
    "",
    data ? JSON.stringify(data, null, 2) : text,
  ].join("\n");
  const name = session.name();
  who.textContent = name ? `${name} is signed in.` : "Nobody is signed in.";
}

login.addEventListener("submit", async (event) => {
  event.preventDefault();
  const fields = new FormData(login);
  const result = await session.signIn(fields.get("username"), fields.get("password"));
  show("POST", `${document.body.dataset.browser}login/`, result);
  login.elements.password.value = "";
});

for (const button of document.querySelectorAll("button[data-method]")) {
  const { method, path } = button.dataset;
  button.addEventListener("click", async () => show(method, path, await session.call(method, path)));
}
document.querySelector("#refresh").addEventListener("click", async (event) => {
  show("POST", event.target.dataset.path, await session.refresh());
});
document.querySelector("#logout").addEventListener("click", async (event) => {
  show("POST", event.target.dataset.path, await session.signOut());
});

// The server has said whom the access cookie names. Without one, the refresh cookie may.
if (session.name() !== null && who.dataset.user === "") {
  await session.resume();
}
if (session.name() !== null) who.textContent = `${session.name()} is signed in.`;
document.body.dataset.ready = "yes";
