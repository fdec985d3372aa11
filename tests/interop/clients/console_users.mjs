// The console in Chromium by TLS, where one has to say who one is. The report on stdout is described in check.py.
import { readFileSync } from "node:fs";
import { connect } from "node:tls";
import { base, done, equal, fresh, holds, host, open, port, run, shows, until } from "./browser.mjs";

const data = process.env.PLAINLOG_DATA;
const ca = readFileSync(`${data}/tls/ca.pem`);
const ADMIN = ["admin", readFileSync(`${data}/~admin-password`, "utf8").trim()];

// What the text protocol answers this user to these lines, behind the answer to AUTH.
const netcat = ([user, password], ...lines) => new Promise((resolve, reject) => {
  const [socket, parts] = [connect({ host, port: Number(port), ca }), []];
  socket.on("data", (part) => parts.push(part)).on("error", reject);
  socket.on("end", () => resolve(Buffer.concat(parts).toString().split("\n").slice(0, -1)));
  socket.write([`AUTH ${user} ${password}`, ...lines, "QUIT"].map((line) => `${line}\n`).join(""));
});
const admin = async (...lines) => {
  const wrong = (await netcat(ADMIN, ...lines)).find((answer) => !/^(ACK|OK)/.test(answer));
  if (wrong) throw new Error(wrong);
};
// A user who may read this topic.
const reader = async (topic) => {
  const user = [fresh("reader"), "a secret of two words"];
  await admin(`USER add ${user.join(" ")}`, `ACL add principal:User:${user[0]} operation:read resource:topic name:${topic}`);
  return user;
};

const logIn = async (page, [user, password]) => {
  await page.getByLabel("User").fill(user);
  await page.getByLabel("Password").fill(password);
  await page.getByRole("button", { name: "Log in" }).click();
};
const openAs = async (user, hash, options) => {
  const page = await open(hash, options);
  await logIn(page, user);
  await shows(page, "#me", new RegExp(`User:${user[0]}`));
  return page;
};
const greyed = async (page, name, why) => {
  const button = page.getByRole("button", { name }).first();
  await until(async () => await button.isDisabled(), `'${name}' is greyed`);
  equal(await button.getAttribute("title"), why);
};

const checks = {
  async nothing_is_to_be_seen_before_a_login() {
    const topic = fresh("hidden");
    await admin(`CREATE ${topic} partitions:1`);
    for (const hash of ["topics", `topics/${topic}`, `messages/${topic}`, "users", "wire"]) {
      const page = await open(hash, { quiet: true });
      equal(await page.locator("h1").textContent(), "Log in");
      equal(await page.locator("#pages a").count(), 0);
      equal(await page.evaluate((where) => fetch(where).then((answer) => answer.status), `${base}api/topics/${topic}`), 401);
      holds(!(await page.locator("body").textContent()).includes(topic), "no name is told");
      await done(page);
    }
  },

  async a_wrong_password_is_told_and_the_right_one_opens_the_page() {
    const page = await open("groups", { quiet: true });
    await logIn(page, ["admin", "wrong"]);
    await shows(page, ".wrong", /no user of this name has this password/);
    equal(await page.getByLabel("Password").inputValue(), "");
    await logIn(page, ADMIN);
    await shows(page, "#me", /User:admin/);
    await shows(page, "h1", /Groups/);
    const [cookie] = await page.context().cookies();
    equal([cookie.httpOnly, cookie.secure, cookie.sameSite], [true, true, "Strict"]);
    equal(await page.evaluate(() => document.cookie), "");
    await page.reload();
    await shows(page, "#me", /User:admin/);
    await page.getByRole("button", { name: "Log out" }).click();
    await shows(page, "h1", /Log in/);
    equal((await page.context().cookies()).length, 0);
    await done(page);
  },

  async what_one_may_not_do_is_greyed_and_says_why() {
    const [topic, other] = [fresh("read"), fresh("unread")];
    await admin(`CREATE ${topic}`, `CREATE ${other}`, `SEND ${topic} message:one`);
    const user = await reader(topic);
    const page = await openAs(user, "topics", { quiet: true });
    await shows(page, "main", new RegExp(topic));
    holds(!(await page.locator("main").textContent()).includes(other), "what one may not describe is not there");
    const takes = (what) => `User:${user[0]} may not do this: it takes ${what} on the topic ${topic}`;
    await page.getByRole("link", { name: topic, exact: true }).click();
    await greyed(page, "Delete topic…", takes("delete"));
    await greyed(page, "Add partitions…", takes("alter"));
    await greyed(page, "Trim…", takes("delete"));
    await page.goto(`${base}#/messages/${topic}`);
    await shows(page, ".messages", /one/);
    await greyed(page, "Produce…", takes("write"));
    const off = (name) => page.locator("#pages a.off", { hasText: name }).getAttribute("title");
    for (const [name, takes] of [["Connections", "describe"], ["Wire", "alter"], ["Users", "describe"], ["Rules", "describe"]]) {
      equal(await off(name), `You may not see this: it takes ${takes} on the cluster`);
      await page.getByRole("link", { name, exact: true }).click();
      await shows(page, "main", new RegExp(`User:${user[0]} may not see this: it takes ${takes} on the cluster`));
    }
    await page.goto(`${base}#/topics/${other}`);
    await shows(page, "h1", /Not here/);
    await done(page);
  },

  async a_live_tail_and_a_rule_that_is_new_work_for_who_is_logged_in() {
    const topic = fresh("live");
    await admin(`CREATE ${topic} partitions:1`);
    const user = await reader(topic);
    const page = await openAs(user, `messages/${topic}`);
    await page.getByRole("button", { name: "Live" }).click();
    await until(async () => {
      await admin(`SEND ${topic} message:seen-at-once`);
      return (await page.locator(".messages").textContent()).includes("seen-at-once");
    }, "a record arrives");
    await admin(`ACL add principal:User:${user[0]} operation:write resource:topic name:${topic}`);
    await page.reload();
    await until(async () => await page.getByRole("button", { name: "Produce…" }).isEnabled(), "Produce is not greyed any more");
    await done(page);
  },

  async users_and_rules_are_made_changed_and_deleted() {
    const [topic, name] = [fresh("orders"), fresh("clerk")];
    await admin(`CREATE ${topic} partitions:1`);
    const page = await openAs(ADMIN, "users");
    const dialog = page.locator("dialog");
    await page.getByRole("button", { name: "New user" }).click();
    await dialog.getByLabel("Name").fill(name);
    await dialog.getByLabel("Password").fill("first one");
    await page.getByRole("button", { name: "Make user" }).click();
    await shows(page, "#said", new RegExp(`User ${name} is there`));
    await shows(page, "main", new RegExp(name));
    equal((await netcat([name, "first one"], `SEND ${topic} message:x`))[1].split(" ").slice(0, 2), ["ERROR", "TOPIC_AUTHORIZATION_FAILED"]);

    await page.goto(`${base}#/rules`);
    await page.getByRole("button", { name: "New rule" }).click();
    await dialog.getByLabel("Who").fill(`User:${name}`);
    await dialog.getByLabel("Operation").selectOption("write");
    await dialog.getByLabel("Name").fill(topic);
    await page.getByRole("button", { name: "Make rule" }).click();
    await shows(page, "#said", new RegExp(`User:${name} may write topic ${topic}`));
    equal((await netcat([name, "first one"], `SEND ${topic} message:x`))[1], `ACK topic:${topic} partition:0 offset:0`);

    await page.goto(`${base}#/users`);
    await page.getByRole("button", { name: `Password ${name}` }).click();
    await page.getByLabel("New password").fill("second one");
    await page.getByRole("button", { name: "Change password" }).click();
    await page.locator("dialog").waitFor({ state: "detached" });
    equal((await netcat([name, "first one"]))[0].split(" ").slice(0, 2), ["ERROR", "SASL_AUTHENTICATION_FAILED"]);
    equal((await netcat([name, "second one"]))[0], `OK principal:User:${name}`);

    await page.getByRole("button", { name: `Delete ${name}` }).click();
    await page.getByRole("button", { name: "Delete user" }).click();
    await shows(page, "#said", new RegExp(`User ${name} is gone; 1 rule`));
    equal((await netcat([name, "second one"]))[0].split(" ").slice(0, 2), ["ERROR", "SASL_AUTHENTICATION_FAILED"]);
    await done(page);
  },

  async a_password_that_changes_ends_the_session() {
    const topic = fresh("topic");
    await admin(`CREATE ${topic} partitions:1`);
    const user = await reader(topic);
    const page = await openAs(user, "topics", { quiet: true });
    await admin(`USER password ${user[0]} another one`);
    await page.reload();
    await shows(page, "h1", /Log in/);
    await logIn(page, [user[0], "another one"]);
    await shows(page, "#me", new RegExp(`User:${user[0]}`));
    await done(page);
  },
};

await run(checks, true);
