struct Wrapped<I: coppice_interfaces::Shadowed + ?Sized>(coppice_interfaces::Shadow<I>);

fn main() {
    let _: Option<Wrapped<dyn coppice_example_interfaces::Counter>> = None;
}
