// What an operator can do here: reset a connection, ban a peer, lift the ban.

import { html, say, the } from './dom.js';
import { networkOf } from './search.js';

/** A network as a path has it. */
const inPath = (peers) => encodeURIComponent(peers).replaceAll('%3A', ':');

/** Sends an order. Returns whether it was followed, and what the server says. */
async function order(method, path) {
  try {
    const answer = await fetch(path, { method, headers: { 'X-Halfopen': 'page' } });
    return { done: answer.ok, text: (await answer.text()).trim() };
  } catch {
    return { done: false, text: 'the server does not answer' };
  }
}

/** Asks a question, and waits for the answer. */
function ask(heading, text, about = {}) {
  const dialog = the('ask');
  say(the('ask-heading'), heading);
  say(the('ask-text'), text);
  the('ask-ban').hidden = about.peers === undefined;
  the('ask-peers').value = about.peers ?? '';
  dialog.returnValue = '';
  dialog.showModal();
  return new Promise((resolve) => {
    dialog.addEventListener('close', () => resolve(dialog.returnValue === 'yes'), { once: true });
  });
}

/** Connects the buttons. `selected` returns the connection that is shown, `tell` the user. */
export function begin(selected, tell) {
  for (const button of document.querySelectorAll('dialog button')) {
    button.addEventListener('click', () => button.closest('dialog').close(button.value));
  }
  the('reset').addEventListener('click', async () => {
    const { id, peer } = selected();
    if (!(await ask(`Reset connection ${id}?`, `${peer} sees RST.`))) return;
    const { done, text } = await order('POST', `/connections/${id}/reset`);
    tell(done ? `connection ${id} is reset` : `not reset: ${text}`);
  });
  the('ban').addEventListener('click', async () => {
    const { peer } = selected();
    const question = 'Its open connections are reset, and further ones refused until then.';
    if (!(await ask(`Ban ${peer}?`, question, { peers: networkOf(peer) }))) return;
    const peers = the('ask-peers').value.trim();
    const seconds = the('ask-seconds').value;
    const path = `/peers/${inPath(peers)}/ban?seconds=${encodeURIComponent(seconds)}`;
    const { done, text } = await order('POST', path);
    tell(done ? `${peers} is banned for ${seconds} s` : `not banned: ${text}`);
    if (done) list(peers, seconds, tell);
  });
}

/** Lists a ban, with a button that lifts it. */
function list(peers, seconds, tell) {
  const lift = html('button', { type: 'button' }, `Lift the ban of ${peers}`);
  const item = html('li', {}, `${peers}, for ${seconds} s `, lift);
  const remove = () => {
    item.remove();
    the('bans').hidden = the('banned').childElementCount === 0;
  };
  lift.addEventListener('click', async () => {
    const { done, text } = await order('DELETE', `/peers/${inPath(peers)}/ban`);
    tell(done ? `${peers} is no longer banned` : `the ban stays: ${text}`);
    if (done) remove();
  });
  setTimeout(remove, seconds * 1000);
  the('banned').append(item);
  the('bans').hidden = false;
}
