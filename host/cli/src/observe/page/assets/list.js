// The list of connections.

import { html, say, the } from './dom.js';
import { age, bytes, visible } from './words.js';

/** How many rows are shown at most. */
const MOST = 500;
const COLUMNS = ['id', 'peer', 'service', 'state', 'received', 'sent', 'age', 'instance', 'outcome'];
const NUMBERS = new Set(['received', 'sent', 'age', 'instance']);

export class List {
  constructor() {
    this.body = the('rows');
    /** The rows by the id of their connection. */
    this.rows = new Map();
  }

  /** Shows the connections that fit, the newest first, and marks the selected one. */
  show(model, fits, selected, now) {
    const shown = [];
    let fitting = 0;
    for (const connection of [...model.connections.values()].reverse()) {
      if (!fits(connection)) continue;
      fitting += 1;
      if (shown.length < MOST) shown.push(connection);
    }
    const total = model.connections.size;
    const cut = fitting > MOST ? `, of which the newest ${MOST} are shown` : '';
    say(the('count'), fitting === total ? `${total} connections${cut}` : `${fitting} of ${total} connections${cut}`);
    this.#remove(new Set(shown.map((connection) => connection.id)));
    let next = this.body.firstChild;
    for (const connection of shown) {
      const row = this.rows.get(connection.id) ?? this.#insert(connection);
      if (row.element === next) next = next.nextSibling;
      else this.body.insertBefore(row.element, next);
      fill(row, connection, now);
      mark(row.element, connection.id === selected);
    }
  }

  /** The id of the connection before or after another one in the list, or the first one. */
  neighbour(id, step) {
    const row = this.rows.get(id)?.element;
    const other = row && (step > 0 ? row.nextSibling : row.previousSibling);
    const target = row ? (other ?? row) : this.body.firstChild;
    return target ? Number(target.dataset.id) : null;
  }

  focus(id) {
    this.rows.get(id)?.element.querySelector('a').focus();
  }

  #insert({ id }) {
    const link = html('a', { href: `#connection/${id}` }, String(id));
    const cells = {};
    const element = html('tr', { 'data-id': id });
    for (const column of COLUMNS) {
      const attributes = NUMBERS.has(column) ? { class: 'number' } : {};
      cells[column] = column === 'id' ? html('th', { scope: 'row' }, link) : html('td', attributes);
      element.append(cells[column]);
    }
    const row = { element, cells };
    this.rows.set(id, row);
    return row;
  }

  #remove(kept) {
    for (const [id, row] of this.rows) {
      if (kept.has(id)) continue;
      row.element.remove();
      this.rows.delete(id);
    }
  }
}

function fill({ element, cells }, connection, now) {
  const seconds = connection.closed ? connection.age : now - connection.began;
  say(cells.age, age(seconds));
  if (element.dataset.version === String(connection.version)) return;
  element.dataset.version = connection.version;
  element.classList.toggle('ended', connection.closed !== null);
  say(cells.peer, visible(connection.peer));
  say(cells.service, visible(connection.service));
  const { in: read, out: sent } = connection.blocked;
  say(cells.state, connection.state + (read || sent ? ' (blocked)' : ''));
  say(cells.received, bytes(connection.received));
  say(cells.sent, bytes(connection.sent));
  say(cells.instance, connection.instance === null ? '' : String(connection.instance));
  say(cells.outcome, visible(connection.outcome));
}

function mark(element, selected) {
  if (selected) element.setAttribute('aria-current', 'true');
  else element.removeAttribute('aria-current');
}
