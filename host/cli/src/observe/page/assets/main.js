// The page: puts the stream, the model and the views together.

import * as actions from './actions.js';
import { say, the } from './dom.js';
import * as keys from './keys.js';
import { Ladder, introduce } from './ladder.js';
import { List } from './list.js';
import { Model } from './model.js';
import { search } from './search.js';
import { Source } from './source.js';
import { visible } from './words.js';

/** The shortest time between two drawings, in milliseconds. */
const PERIOD = 200;
/** How often ages move on. */
const CLOCK = 1000;

const model = new Model();
const list = new List();
const ladder = new Ladder();
let fits = search('');
let selected = null;
let scheduled = false;
/** The browser's clock at the last event, to go on with the server's. */
let arrived = performance.now();
let flowing = false;

const tell = (text) => say(the('status'), text);
const shown = () => model.connections.get(selected) ?? null;
const now = () => (source.paused ? heldAt : model.at + (performance.now() - arrived) / 1000);
let heldAt = 0;

const source = new Source(
  (event) => {
    const before = model.at;
    const again = event.event === 'hello' && model.hello !== null;
    const connection = model.apply(event);
    if (model.at !== before) arrived = performance.now();
    if (event.event === 'lost') tell(`${event.count} events were lost, because too many came at once`);
    // Meanwhile, connections may have ended unheard.
    if (event.event === 'lost' || again) reconcile();
    if (event.event === 'closed' && connection?.id === selected) {
      tell(visible(`connection ${selected} is closed: ${event.cause ?? event.outcome}`));
    }
    draw();
  },
  (flows) => {
    if (flowing && !flows) tell('the server does not answer; trying again');
    if (flows && !flowing) tell('');
    flowing = flows;
    draw();
  },
);

let asking = false;
let askAgain = false;

/** Asks which connections are still open: one question at a time, however often it comes up. */
async function reconcile() {
  if (asking) {
    askAgain = true;
    return;
  }
  asking = true;
  do {
    askAgain = false;
    await compare();
  } while (askAgain);
  asking = false;
}

async function compare() {
  const asked = model.at;
  const answer = await fetch('/connections').catch(() => null);
  if (!answer?.ok) return;
  const open = await answer.json();
  model.reconcile(new Set(open.map((connection) => connection.id)), asked);
  draw();
}

function draw() {
  if (scheduled) return;
  scheduled = true;
  setTimeout(() => {
    scheduled = false;
    show();
  }, PERIOD);
}

function show() {
  const { hello } = model;
  const lost = model.lost ? `, ${model.lost} events lost` : '';
  const server = hello ? `${visible(hello.services.join(', '))}, process ${hello.pid}${lost}` : 'not connected';
  say(the('server'), flowing ? server : 'not connected');
  list.show(model, fits, selected, now());
  const connection = shown();
  the('detail').hidden = connection === null;
  if (!connection) return;
  the('actions').hidden = !hello?.may_write || connection.closed !== null;
  introduce(connection);
  ladder.show(connection);
}

/** Shows the connection that the address names. */
function follow() {
  const [, id] = /^#connection\/(\d+)$/.exec(location.hash) ?? [];
  selected = id === undefined ? null : Number(id);
  model.chosen = selected;
  document.title = id === undefined ? 'halfopen: connections' : `halfopen: connection ${id}`;
  show();
}

function select(id) {
  if (id === null) return;
  // Not a step in the history for each key.
  history.replaceState(null, '', `#connection/${id}`);
  follow();
  list.focus(id);
}

function pause() {
  const pausing = !source.paused;
  the('pause').setAttribute('aria-pressed', String(pausing));
  if (pausing) {
    heldAt = now();
    source.pause();
    tell('paused');
    return;
  }
  if (source.resume()) tell('');
  else {
    model.clear();
    tell('too much came meanwhile; this is the present state');
  }
  show();
}

the('search').addEventListener('input', (event) => {
  fits = search(event.target.value);
  show();
});
the('pause').addEventListener('click', pause);
the('help').addEventListener('click', () => the('keys').showModal());
window.addEventListener('hashchange', follow);
actions.begin(shown, tell);
keys.listen({
  next: () => select(list.neighbour(selected, 1)),
  before: () => select(list.neighbour(selected, -1)),
  leave() {
    history.replaceState(null, '', location.pathname);
    follow();
  },
  pause,
});
setInterval(() => {
  if (!source.paused) draw();
}, CLOCK);
follow();
