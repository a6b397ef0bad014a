// The page's elements. Text always goes in as text, never as HTML: peers choose some of it.

const SVG = 'http://www.w3.org/2000/svg';

/** The element with an id. */
export const the = (id) => document.getElementById(id);

/** Sets the text of an element, if it is another one. */
export function say(element, text) {
  if (element.textContent !== text) element.textContent = text;
}

/** Makes an element of HTML. */
export function html(name, attributes = {}, ...children) {
  return filled(document.createElement(name), attributes, children);
}

/** Makes an element of SVG. */
export function svg(name, attributes = {}, ...children) {
  return filled(document.createElementNS(SVG, name), attributes, children);
}

function filled(element, attributes, children) {
  for (const [name, value] of Object.entries(attributes)) element.setAttribute(name, value);
  // Strings become text nodes.
  element.append(...children);
  return element;
}
