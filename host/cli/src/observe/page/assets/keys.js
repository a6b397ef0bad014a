// The keyboard.

import { the } from './dom.js';

/** Whether a key belongs to the element that has the focus. */
function isTaken(key) {
  const focused = document.activeElement;
  if (document.querySelector('dialog[open]')) return true;
  if (['INPUT', 'TEXTAREA', 'SELECT'].includes(focused?.tagName)) return key !== 'Escape';
  if (key === ' ') return ['BUTTON', 'SUMMARY'].includes(focused?.tagName);
  // Arrows scroll where there is something to scroll.
  if (key.startsWith('Arrow')) return the('detail').contains(focused);
  return false;
}

/** Calls the actions: `next`, `before`, `leave`, `pause`. */
export function listen(actions) {
  const keys = {
    j: actions.next,
    ArrowDown: actions.next,
    k: actions.before,
    ArrowUp: actions.before,
    Escape() {
      const focused = document.activeElement;
      focused.blur();
      if (focused !== the('search')) actions.leave();
    },
    ' ': actions.pause,
    '/': () => the('search').focus(),
    '?': () => the('keys').showModal(),
  };
  document.addEventListener('keydown', (event) => {
    if (event.ctrlKey || event.metaKey || event.altKey) return;
    const act = keys[event.key];
    if (!act || isTaken(event.key)) return;
    event.preventDefault();
    act();
  });
}
