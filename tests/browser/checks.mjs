// What can be said of any page by looking at it. Each function runs inside the page.

// By how many pixels the page is wider than the window.
export const sticksOut = () => Math.max(0, document.documentElement.scrollWidth - window.innerWidth);

// Controls that a screen reader could only call "button" or "edit".
export const namelessControls = () =>
  [...document.querySelectorAll('button, a, input:not([type=hidden])')]
    .filter((control) => !(control.textContent.trim() || control.ariaLabel || control.labels?.length > 0))
    .map((control) => control.outerHTML);

// Texts whose colour is too close to what is behind them (WCAG 2 AA, normal size). Disabled controls are exempt there.
export const faintTexts = () => {
  const channels = (colour) => colour.match(/[\d.]+/g).map(Number);
  const luminance = ([red, green, blue]) => {
    const linear = [red, green, blue].map((channel) => {
      const part = channel / 255;
      return part <= 0.04045 ? part / 12.92 : ((part + 0.055) / 1.055) ** 2.4;
    });
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2];
  };
  const backgroundOf = (element) => {
    for (let behind = element; behind; behind = behind.parentElement) {
      const colour = channels(getComputedStyle(behind).backgroundColor);
      if ((colour[3] ?? 1) === 1) return colour;
    }
    return [255, 255, 255];
  };
  const contrast = (element) => {
    const [a, b] = [channels(getComputedStyle(element).color), backgroundOf(element)].map(luminance);
    return (Math.max(a, b) + 0.05) / (Math.min(a, b) + 0.05);
  };
  const hasText = (element) => [...element.childNodes].some((node) => node.nodeType === 3 && node.data.trim());
  return [...document.body.querySelectorAll('*')]
    .filter((element) => hasText(element) && element.checkVisibility() && !element.closest(':disabled, noscript'))
    .filter((element) => contrast(element) < 4.5)
    .map((element) => `${contrast(element).toFixed(2)} : 1 "${element.textContent.trim().slice(0, 60)}"`);
};
