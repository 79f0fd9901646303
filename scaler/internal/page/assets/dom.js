// Elements are made here and nowhere else, and text becomes text nodes only: what a
// server says of itself can never become markup.

const SVG = "http://www.w3.org/2000/svg";

// visible shows characters that would otherwise act: control characters, and those that
// turn the direction of what follows.
const acting = /[\u0000-\u0008\u000b-\u001f\u007f-\u009f\u061c\u200e\u200f\u202a-\u202e\u2066-\u2069]/g;
export const visible = (text) => text.replace(acting, (c) => "\\u" + c.charCodeAt(0).toString(16).padStart(4, "0"));

function make(element, attributes, children) {
  for (const [name, value] of Object.entries(attributes ?? {})) {
    if (value === false || value === null || value === undefined) continue;
    element.setAttribute(name, value === true ? "" : visible(String(value)));
  }
  for (const child of children.flat(Infinity)) {
    if (child === null || child === undefined || child === false || child === "") continue;
    element.append(child instanceof Node ? child : document.createTextNode(visible(String(child))));
  }
  return element;
}

export const h = (tag, attributes, ...children) => make(document.createElement(tag), attributes, children);
export const svg = (tag, attributes, ...children) => make(document.createElementNS(SVG, tag), attributes, children);
export const byId = (id) => document.getElementById(id);

const keyOf = (node) => (node.nodeType === Node.ELEMENT_NODE ? node.getAttribute("data-key") : null);
const alike = (a, b) => a.nodeType === b.nodeType && a.nodeName === b.nodeName && keyOf(a) === keyOf(b);

// fill makes an element's content what it should be, and leaves what is right as it is:
// focus, what is unfolded and what is scrolled stay.
export function fill(element, ...children) {
  const wanted = h("div", null, ...children);
  contents(element, wanted);
}

function contents(element, wanted) {
  const keyed = new Map();
  for (const child of element.childNodes) if (keyOf(child) !== null) keyed.set(keyOf(child), child);
  let at = element.firstChild;
  for (const child of [...wanted.childNodes]) {
    const old = keyed.get(keyOf(child)) ?? at;
    if (old && alike(old, child)) {
      if (old !== at) element.insertBefore(old, at);
      else at = at.nextSibling;
      morph(old, child);
    } else {
      element.insertBefore(child, at);
    }
  }
  while (at) {
    const next = at.nextSibling;
    at.remove();
    at = next;
  }
}

function morph(old, wanted) {
  if (old.nodeType !== Node.ELEMENT_NODE) {
    if (old.data !== wanted.data) old.data = wanted.data;
    return;
  }
  for (const { name } of [...old.attributes]) {
    if (!wanted.hasAttribute(name) && !(name === "open" && old.nodeName === "DETAILS")) old.removeAttribute(name);
  }
  for (const { name, value } of wanted.attributes) {
    if (old.getAttribute(name) !== value) old.setAttribute(name, value);
  }
  contents(old, wanted);
}
