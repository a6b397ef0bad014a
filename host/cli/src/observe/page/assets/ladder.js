// The ladder of a connection: two lanes, time down the side, an arrow for what crosses the wire.

import { html, say, svg, the } from './dom.js';
import { content, describe, sender, visible } from './words.js';

const WIDTH = 760;
const ROW = 26;
const TOP = 30;
/** Where the lanes are, and where the time and the notes begin. */
const LANES = { peer: 110, service: 430 };
const TIME = 92;
const NOTE = 446;
/** How many characters of a note fit. */
const NOTE_LENGTH = 46;

export class Ladder {
  constructor() {
    this.place = the('ladder');
    this.table = the('events');
    this.connection = null;
  }

  /** Shows a connection. Rows that are there already stay. */
  show(connection) {
    if (this.connection !== connection) this.#begin(connection);
    if (this.version === connection.version) return;
    this.version = connection.version;
    this.#forget(connection.dropped);
    const { events, dropped, began } = connection;
    for (let index = this.end; index < dropped + events.length; index += 1) {
      const event = events[index - dropped];
      this.rows.append(arrow(event, index, began));
      this.table.append(line(event, began));
    }
    this.end = dropped + events.length;
    this.#frame(connection);
  }

  #begin(connection) {
    this.connection = connection;
    this.version = -1;
    this.first = this.end = connection.dropped;
    this.table.replaceChildren();
    this.frame = svg('g');
    this.rows = svg('g');
    this.svg = svg('svg', { role: 'img', width: WIDTH }, this.frame, this.rows);
    this.place.replaceChildren(this.svg);
    this.place.scrollTop = 0;
  }

  /** Removes the rows of events that are no longer kept. */
  #forget(dropped) {
    for (; this.first < Math.min(dropped, this.end); this.first += 1) {
      this.rows.firstChild?.remove();
      this.table.firstChild?.remove();
    }
    this.first = Math.max(this.first, dropped);
    this.end = Math.max(this.end, dropped);
  }

  /** The lanes, and what is beside them: blocked stretches, pauses, how much is missing. */
  #frame(connection) {
    const { events, dropped } = connection;
    const top = dropped * ROW;
    const height = TOP + events.length * ROW + 10;
    this.svg.setAttribute('viewBox', `0 ${top} ${WIDTH} ${height}`);
    this.svg.setAttribute('height', height);
    const ended = connection.closed ? `, closed: ${describe(connection.closed)}` : '';
    this.svg.setAttribute(
      'aria-label',
      `Ladder of connection ${connection.id}, ${events.length} events${ended}; the table below has the same`,
    );
    const parts = [];
    for (const [name, x] of Object.entries(LANES)) {
      parts.push(svg('text', { x, y: top + 18, class: 'lane-name' }, name));
      const [begin, end] = [top + TOP - 6, top + height];
      const last = Math.max(finished(connection, name) ?? end, begin);
      parts.push(svg('line', { x1: x, x2: x, y1: begin, y2: last, class: 'lane' }));
      if (last < end) parts.push(svg('line', { x1: x, x2: x, y1: last, y2: end, class: 'lane finished' }));
    }
    if (dropped > 0) {
      parts.push(svg('text', { x: NOTE, y: top + 18, class: 'note' }, `${dropped} earlier events are not kept`));
    }
    for (const { from, to, x, kind } of stretches(connection)) {
      const [y, end] = [middle(from), middle(to)];
      parts.push(svg('rect', { x: x - 5, y, width: 10, height: Math.max(end - y, 4), class: kind }));
    }
    this.frame.replaceChildren(...parts);
  }
}

const middle = (index) => TOP + index * ROW + ROW / 2;

/** Where a side sends no more; `null` if it may still send. */
function finished({ events, dropped, course }, side) {
  const dir = side === 'peer' ? 'in' : 'out';
  const ends = (event) => event.event === 'rst' || (event.event === 'fin' && event.dir === dir);
  const index = events.findIndex(ends);
  if (index >= 0) return middle(dropped + index);
  // What has ended it is not kept.
  return course.ended[dir] ? 0 : null;
}

/** The stretches in which a direction was blocked, or the service had paused. */
function stretches({ events, dropped }) {
  const found = [];
  const open = new Map();
  const begins = (name, index, x, kind) => {
    if (open.has(name)) return;
    const stretch = { from: index, to: dropped + events.length - 1, x, kind };
    open.set(name, stretch);
    found.push(stretch);
  };
  const ends = (name, index) => {
    const stretch = open.get(name);
    if (stretch) stretch.to = index;
    open.delete(name);
  };
  events.forEach((event, position) => {
    const index = dropped + position;
    const lane = event.dir === 'out' ? LANES.peer : LANES.service;
    if (event.event === 'blocked') begins(`blocked ${event.dir}`, index, lane, 'blocked');
    if (event.event === 'unblocked') ends(`blocked ${event.dir}`, index);
    if (event.event === 'paused') begins('paused', index, LANES.service, 'paused');
    if (event.event === 'resumed') ends('paused', index);
    if (event.event === 'closed') for (const name of [...open.keys()]) ends(name, index);
  });
  return found;
}

const seconds = (event, began) => Math.max(0, event.at - began).toFixed(3);

/** The row of an event. */
function arrow(event, index, began) {
  const y = middle(index);
  const from = sender(event);
  const row = svg('g', { class: `row ${event.event}` });
  row.append(svg('text', { x: TIME, y: y + 4, class: 'time' }, seconds(event, began)));
  if (!from) {
    row.append(svg('circle', { cx: LANES.service, cy: y, r: 4, class: 'mark' }));
    const state = event.state ? `: ${event.state}` : '';
    row.append(svg('text', { x: NOTE, y: y + 4, class: 'note' }, short(describe(event) + state)));
    return row;
  }
  const [start, end] = from === 'peer' ? [LANES.peer, LANES.service] : [LANES.service, LANES.peer];
  const back = end > start ? -9 : 9;
  row.append(svg('line', { x1: start, x2: end, y1: y, y2: y, class: 'arrow' }));
  row.append(svg('path', { d: `M${end},${y} l${back},-5 v10 z`, class: 'head' }));
  const label = { x: (LANES.peer + LANES.service) / 2, y: y - 4, class: 'label' };
  row.append(svg('text', label, describe(event)));
  if (event.state) row.append(svg('text', { x: NOTE, y: y + 4, class: 'note state' }, event.state));
  const text = content(event, NOTE_LENGTH);
  if (text) row.append(svg('text', { x: NOTE, y: y + 4, class: 'note content' }, text));
  return row;
}

/** The same row of the table. */
function line(event, began) {
  const row = html('tr', {}, html('td', { class: 'number' }, seconds(event, began)));
  row.append(html('td', {}, sender(event) ?? ''));
  row.append(html('td', {}, describe(event)));
  row.append(html('td', {}, event.state ?? ''));
  row.append(html('td', {}, content(event)));
  return row;
}

function short(text) {
  const chars = [...text];
  return chars.length > NOTE_LENGTH ? `${chars.slice(0, NOTE_LENGTH - 1).join('')}…` : text;
}

/** What is above the ladder. */
export function introduce(connection) {
  const { id, service, peer, state, received, sent } = connection;
  say(the('detail-heading'), `Connection ${id}`);
  say(the('summary'), `${peer} to ${service}, ${state}, ${received} bytes received, ${sent} sent`);
  const closed = connection.closed;
  const first = closed?.first ? ` The ${closed.first} ended first.` : '';
  say(the('cause'), visible(closed ? `Closed (${closed.outcome}): ${closed.cause ?? ''}.${first}` : ''));
}
