// What the browser keeps for this page; where it is told to keep nothing for sites, what the page keeps itself.

function withinThePage() {
  const kept = new Map();
  return {
    getItem: (key) => kept.get(key) ?? null,
    setItem: (key, value) => kept.set(key, value),
    removeItem: (key) => kept.delete(key),
  };
}

function ofTheBrowser() {
  try {
    return window.localStorage;
  } catch { // to name it is refused
    return null;
  }
}

export const localStorage = ofTheBrowser() ?? withinThePage();
