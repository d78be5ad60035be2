//! Programs that rustc 1.95 accepts and that are unsound, and honest code of similar shape.

use std::path::PathBuf;

use super::*;

fn findings(text: &str) -> Vec<String> {
    let syntax = syn::parse_file(text).unwrap_or_else(|error| panic!("{error} in {text}"));
    let file = SourceFile { path: PathBuf::new(), syntax };
    audit(&file, "lib.rs").iter().map(ToString::to_string).collect()
}

#[track_caller]
fn assert_caught(text: &str, issue: &str) {
    let findings = findings(text);
    assert!(findings.iter().any(|finding| finding.contains(issue)), "{text}\ngave {findings:?}");
}

#[track_caller]
fn assert_clean(text: &str) {
    assert_eq!(findings(text), [] as [String; 0], "{text}");
}

#[test]
fn implied_bounds_between_parameters_are_caught() {
    for signature in [
        "fn f<'a, 'b, T>(_: &'a &'b (), v: &'b T) -> &'a T { v }",
        "fn f<'a, 'b, T>(_: &'a mut [&'b u8; 3], v: &'b T) -> &'a T { v }",
        "fn f<'a, 'b, T>(v: &'b T, _: [&'a [&'b T]; 0]) -> &'a T { v }",
        "fn f<'a, 'b>(_: &'a &'b (), v: &'b u8) -> Box<dyn Show + 'a> { Box::new(v) }",
        "fn f<'a, 'b, T>(_: &'a &'b (), v: &'b T, out: &Cell<Option<&'a T>>) { out.set(Some(v)) }",
        "fn f<'a, 'b, T>(_: Nested<'a, 'b>, v: &'b T) -> &'a T { v }",
        "fn f<'a, 'b>(s: &'b str, _: <&'a &'b () as Trait>::Type) -> &'a str { s }",
        "fn f<'a, 'b, T>(v: &'b T) -> Option<(&'a &'b (), &'a T)> { None }",
        "fn f<'a, 'b, T>(_: Option<&'a dyn Tr<'b>>, v: &'b T) -> &'a T { v }",
        "fn f<'b, T>(_: &&'b (), v: &'b T) -> &'b T { v } fn g<'a, 'b, T>(_: (&'a (&'b (),),), v: &'b T) -> (&'a T,) { (v,) }",
        "trait U<'a> { fn f<'b, T>(_: &'a &'b (), v: &'b T) -> &'a T; }",
        "impl<'a> U<'a> for S { fn f<'b, T>(_: &'a &'b (), v: &'b T) -> &'a T { v } }",
        "impl<'b> Tr<'b> for &'b () { fn f<'a, T>(&'a self, v: &'b T) -> &'a T { v } }",
        "impl<'b> S<'b> { fn f<T>(&self, v: &'b T) -> &T { v } }",
        "mod m { fn g() { fn f<'a, 'b, T>(_: &'a &'b (), v: &'b T) -> &'a T { v } } }",
    ] {
        assert_caught(signature, "25860");
    }
}

#[test]
fn stated_bounds_and_other_signatures_are_clean() {
    for signature in [
        "fn f<'a, 'b: 'a, T>(_: &'a &'b (), v: &'b T) -> &'a T { v }",
        "fn f<'a, 'b, T>(_: &'a &'b (), v: &'b T) -> &'a T where 'b: 'a { v }",
        "fn f<'a, 'b: 'c, 'c: 'a, T>(_: &'a &'b (), v: &'b T) -> &'a T { v }",
        "fn f<'a, 'b>(x: &'a Packet<'b>) -> &'a [u8] { x.bytes() }",
        "fn f<'a, 'b>(x: &'a Packet<'b>) -> Part<'a, 'b> { x.part() }",
        "impl<'b> S<'b> { fn f(&self, v: &'b str) -> &'b str { v } fn g(&self, key: &str) -> &str { self.0 } }",
        "impl<'a> Reader<'a> { fn f(&mut self, name: &str) -> Option<&'a str> { None } }",
        "impl<K> Map<K> { fn get(&self, key: K) -> &u8 { &self.0 } }",
        "fn f<'a>(x: &'a str, y: &'a str) -> &'a str { x }",
        "impl<'a, 'b> Iterator for Pairs<'a, 'b> { type Item = (&'a u8, &'b u8); fn next(&mut self) -> Option<Self::Item> { None } }",
        "#[cfg(test)] mod tests { fn f<'a, 'b, T>(_: &'a &'b (), v: &'b T) -> &'a T { v } }",
    ] {
        assert_clean(signature);
    }
}

#[test]
fn implied_bounds_of_implementations_and_binders_are_caught() {
    assert_caught("impl<'a, 'b> Sub<'a, 'b, &'b &'a ()> for S {}", "84591");
    assert_caught("impl<'a, 'b> Sub<'a, 'b, Nested<'b, 'a>> for S {}", "84591");
    assert_caught("impl<'a, 'b> Sub for &'b &'a () {}", "84591");
    assert_caught("fn f<S: for<'x, 'y> Sub<'x, 'y, &'y &'x ()>>() {}", "84591");
    assert_caught("fn f<S>() where S: for<'x, 'y> Sub<'x, 'y, &'y [&'x ()]> {}", "84591");
    assert_caught(
        "impl<'a, 'b> Extend<'a, 'b> for <&'b &'a () as Tr<u8>>::Ty { fn f(self, s: &'a str) -> &'b str { s } }",
        "25860",
    );
    assert_clean("impl<'a, 'b: 'a> From<&'a Packet<'b>> for Part<'a> {}");
    assert_clean("impl<F: for<'x> Fn(&'x u8) -> &'x u8> Tr for Wrapper<F> {}");
}

#[test]
fn trait_objects_that_fix_a_type_are_caught() {
    for text in [
        "fn f<T, U>(x: T) -> U { g::<dyn Object<U, Output = T>, U>(x) }",
        "type Alias = Box<dyn Trait<i32, Assoc = Vec<u8>> + Send>;",
        "impl D for Dummy { type A = dyn Trait<Assoc = u8>; }",
        "trait Dog: TypeEq<This = dyn Cat> {}",
        "trait Dog where Self: TypeEq<This = u8> {}",
        "macro_rules! m { ($a:ty) => { g::<dyn Object<u8, Output = $a>>() } }",
        "fn f() { m!(dyn Object<Output = u8>) }",
        "impl<T: ?Sized, U> Object<U> for T { type Output = U; }",
        "impl<T> Object for T where T: ?Sized + Marker { type Output = u8; }",
        "impl<T> Trait<T> for <Dummy as D>::A { type Assoc = u8; }",
    ] {
        assert_caught(text, "57893");
    }
    assert_clean("fn f(x: &dyn Fn(u8) -> u8, y: Box<dyn Tr<u8> + 'static>, z: impl Iterator<Item = u8>) {}");
    assert_clean("impl<T: Model + ?Sized> Model for Arc<T> { fn f(&self) {} }");
    assert_clean("impl<T: Tr> Marker for T {}  impl<T> Iterator for Mine<T> { type Item = T; }");
    assert_clean("fn f() { let x: &dyn Tr<u8> = &1; let y = 2; m!(dyn Tr, x = 2) }");
}

#[test]
fn closures_that_are_static_are_caught() {
    assert_caught(
        "fn f<T: Trait + 'static>(_: &T, x: T::Associated) -> Box<dyn Display> { Box::new(x) }",
        "84366",
    );
    assert_caught("fn f<T>(x: Option<<T as Trait>::A>) where T: Trait + 'static {}", "84366");
    assert_caught("impl<T: Trait + 'static> S<T> { fn f(x: T::A) {} }", "84366");
    assert_clean("fn f<T: Trait + 'static>(x: T::A) where T::A: 'static {}");
    assert_clean("fn f<T: Trait>(x: T::A) {}  fn g<F: FnOnce() -> T + Send + 'static, T: 'static>(f: F) {}");
    assert_caught("fn f<'a>() -> impl Fn(&'a u8) -> &'a u8 + 'static { |x| x }", "112905");
    assert_clean("fn f() -> impl Fn(&u8) -> u8 + 'static { |x| *x }");
    assert_caught("use core::any::Any;", "84366");
    assert_caught("use core::any::{self, Any as Other};", "84366");
    assert_caught("fn f(x: &dyn core::any::Any) {}", "84366");
    assert_caught("macro_rules! m { () => { core::any::Any } }", "84366");
}

#[test]
fn nested_references_in_macros_are_caught() {
    assert_caught(
        "macro_rules! m { () => { fn f<'a, 'b, T>(_: &'a &'b (), v: &'b T) -> &'a T { v } } }",
        "25860",
    );
    assert_clean("macro_rules! m { ($x:expr) => { fn f<'a>(_: &'a &'a (), v: &'a &'static str) {} } }");
}
